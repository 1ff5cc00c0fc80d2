# Makefile - the whole of Mere, one file, nothing recursive
#
#   make            build everything into build/bin
#   make run        install what is missing, build, start Mere on ./data in the foreground
#   make test       install what tests need, build, run every test; last line: N passed, N failed
#   make help       the other targets
#
# VARIANT= release (default), crash (crash points compiled in), asan (address + undefined behaviour, crash points),
# tsan (threads, crash points), werror (release, warnings are errors), fuzz (clang: address, undefined behaviour, libFuzzer).
# Each variant has its own directory under build/.

VARIANT ?= release
CC      := $(if $(filter default,$(origin CC)),$(if $(filter fuzz,$(VARIANT)),clang,gcc),$(CC))
AR      ?= ar
PYTHON  ?= /usr/bin/python3
PREFIX  ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
VERSION := $(shell cat VERSION 2>/dev/null || echo 0.0.0)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

# The release build lives in build/ itself, so that build/bin/mered is always the one people run.
# OUT= puts a build elsewhere.
ifneq ($(OUT),)
B := $(OUT)
else ifeq ($(VARIANT),release)
B := build
else
B := build/$(VARIANT)
endif

# --- flags ---------------------------------------------------------------------------------------------------------------

WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wformat=2 -Wimplicit-fallthrough
SECT := -ffunction-sections -fdata-sections
PIE  := -fPIE -fstack-protector-strong

# With clang, glibc's fortification turns the functions that base.h forbids into macros, which cannot be poisoned: gcc only.
FORTIFY := $(if $(findstring clang,$(CC)),-U_FORTIFY_SOURCE,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)

MODE_release := -O2 -g $(FORTIFY)
MODE_werror  := $(MODE_release) -Werror
MODE_crash   := $(MODE_release) -DMERE_CRASH_POINTS
MODE_asan    := -O1 -g -fno-omit-frame-pointer -DMERE_CRASH_POINTS -fsanitize=address,undefined -fno-sanitize-recover=all
MODE_tsan    := -O1 -g -fno-omit-frame-pointer -DMERE_CRASH_POINTS -fsanitize=thread
MODE_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
ifeq ($(MODE_$(VARIANT)),)
$(error VARIANT must be release, werror, crash, asan, tsan or fuzz, not "$(VARIANT)")
endif

PG_INC    := $(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql)
CPPFLAGS_ := -D_GNU_SOURCE -Isrc -I$(PG_INC) $(CPPFLAGS)
CFLAGS_   := -std=gnu11 $(WARN) $(SECT) $(PIE) $(MODE_$(VARIANT)) -pthread $(CFLAGS)
LDFLAGS_  := -pie -pthread -Wl,--gc-sections -Wl,--as-needed -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack \
             $(filter -fsanitize% -fno-sanitize%,$(MODE_$(VARIANT))) $(LDFLAGS)

# Quiet by default; make V=1 shows the commands.
ifeq ($(V),)
Q   := @
say = @printf '  %-3s %s\n' '$(1)' '$(2)'
else
Q   :=
say = @:
endif

# --- sources and archives ------------------------------------------------------------------------------------------------

FOLDERS := base meta pg store branch scheduler api proxy
src     = $(sort $(wildcard src/$(1)/*.c))
objs    = $(patsubst %.c,$(B)/obj/%.o,$(1))
lib     = $(foreach f,$(1),$(B)/lib/lib$(f).a)

SRCS     := $(foreach f,$(FOLDERS),$(call src,$(f)))
CLI_SRCS := $(sort $(wildcard cmd/mere.c cmd/mere/*.c))
MAINS    := mered mere-proxy mere-wal mere-exec
PROGRAMS := mered mere-proxy mere mere-wal mere-exec
UNIT_SRCS  := $(sort $(wildcard tests/unit/*.c))
BENCH_SRCS := $(sort $(wildcard tests/bench/*.c))
FUZZ_SRCS  := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZ_SRCS))

# What a program may link, lowest last.  An archive gives only the objects that are asked for, and a library of the system
# that nothing needs is not loaded: mere-wal starts in a millisecond because it gets no library at all.
LIBS_mered      := -lmicrohttpd -ljansson -lsqlite3 -lpq -lcurl -lssl -lcrypto
FLOORS_mered    := api scheduler branch meta pg store base
LIBS_mere-proxy := -lssl -lcrypto -ljansson
FLOORS_mere-proxy := proxy pg base
LIBS_mere       := -ljansson -lcurl -lcrypto
FLOORS_mere     := base
LIBS_mere-wal   :=
FLOORS_mere-wal := pg base
LIBS_mere-exec  :=
FLOORS_mere-exec := base

# Programs whose main is not written yet are left out, so that a half-grown tree builds.
HAVE := $(foreach p,$(MAINS),$(if $(wildcard cmd/$(p).c),$(p))) $(if $(CLI_SRCS),mere)
BINS := $(patsubst %,$(B)/bin/%,$(filter $(HAVE),$(PROGRAMS)))

.PHONY: all help deps deps-test run test unit e2e slow regress demo lint bench asan tsan crash fuzz fuzz-bins fresh gen man install deb clean objects FORCE
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

all: $(BINS)

# The compiler and its flags, as a file: changing either rebuilds what they made.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(CPPFLAGS_) $(CFLAGS_) $(LDFLAGS_)' | cmp -s - $@ || \
	  { command -v $(CC) >/dev/null || { echo 'make: no C compiler ($(CC)): run "make deps" first' >&2; exit 1; }; \
	    printf '%s\n' '$(CC) $(CPPFLAGS_) $(CFLAGS_) $(LDFLAGS_)' >$@; }

# The version and commit, the same way; only files that include it are rebuilt by a new commit.
$(B)/gen/version.h: FORCE
	@mkdir -p $(@D)
	@printf '#define MERE_VERSION "%s"\n#define MERE_COMMIT "%s"\n' '$(VERSION)' '$(COMMIT)' | cmp -s - $@ || \
	  printf '#define MERE_VERSION "%s"\n#define MERE_COMMIT "%s"\n' '$(VERSION)' '$(COMMIT)' >$@

$(B)/obj/%.o: %.c $(B)/flags | $(B)/gen/version.h
	@mkdir -p $(@D)
	$(call say,cc,$<)
	$(Q)$(CC) $(CPPFLAGS_) $(NAMES) -I$(B)/gen $(CFLAGS_) -MMD -MP -c -o $@ $<

define archive
$(B)/lib/lib$(1).a: $$(call objs,$$(call src,$(1))) $(B)/lib/$(1).list
	@mkdir -p $$(@D)
	$$(call say,ar,$$@)
	$(Q)rm -f $$@
	$(Q)$(AR) rcs $$@ $$(filter %.o,$$^)
$(B)/lib/$(1).list: FORCE
	@mkdir -p $$(@D)
	@echo '$$(call src,$(1))' | cmp -s - $$@ || echo '$$(call src,$(1))' >$$@
endef
$(foreach f,$(FOLDERS),$(eval $(call archive,$(f))))

MAIN_OBJS_mere := $(call objs,$(CLI_SRCS))
define program
$(B)/bin/$(1): $(or $(MAIN_OBJS_$(1)),$(call objs,cmd/$(1).c)) $(call lib,$(FLOORS_$(1)))
	@mkdir -p $$(@D)
	$$(call say,ld,$$@)
	$(Q)$(CC) $(CFLAGS_) $(LDFLAGS_) -o $$@ $$^ $(LIBS_$(1))
endef
$(foreach p,$(HAVE),$(eval $(call program,$(p))))

objects: $(call objs,$(SRCS) $(CLI_SRCS) $(foreach p,$(MAINS),$(wildcard cmd/$(p).c)) $(UNIT_SRCS) $(BENCH_SRCS) \
  $(FUZZ_SRCS) tests/fuzz/seed.c)

# --- unit tests: one program; the list of suites is read from the sources, so that no suite can be forgotten ---------------

$(B)/gen/suites.h: FORCE
	@mkdir -p $(@D)
	@sed -n 's/^Suite \*\(t_[a-z0-9_]*_suite\)(void)$$/SUITE(\1)/p' $(UNIT_SRCS) | cmp -s - $@ || \
	  sed -n 's/^Suite \*\(t_[a-z0-9_]*_suite\)(void)$$/SUITE(\1)/p' $(UNIT_SRCS) >$@

$(B)/obj/tests/unit/test_main.o: $(B)/gen/suites.h

# The fuzz targets take part, each entry point under the name of its file (tests/fuzz/fuzz.h).
$(B)/gen/fuzz_targets.h: FORCE
	@mkdir -p $(@D)
	@printf 'TARGET(%s)\n' $(FUZZ_NAMES) | cmp -s - $@ || printf 'TARGET(%s)\n' $(FUZZ_NAMES) >$@

$(B)/obj/tests/unit/t_fuzz.o: $(B)/gen/fuzz_targets.h
ifneq ($(VARIANT),fuzz)
$(B)/obj/tests/fuzz/fuzz_%.o: NAMES = -DLLVMFuzzerTestOneInput=$(basename $(@F))_one -Dfuzz_properties=$(basename $(@F))_properties
endif

# Every suite sees every floor; -lcheck_pic because the program is position-independent.
$(B)/bin/unit-tests: $(call objs,$(UNIT_SRCS) $(FUZZ_SRCS) tests/fuzz/seed.c) $(call lib,api proxy scheduler branch meta pg store base)
	@mkdir -p $(@D)
	$(call say,ld,$@)
	$(Q)$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
	  -lcheck_pic -lsubunit -lrt -lm $(LIBS_mered)

# The same targets as programs of their own, with libFuzzer: VARIANT=fuzz only.
fuzz-bins: $(addprefix $(B)/bin/fuzz_,$(FUZZ_NAMES))
$(B)/bin/fuzz_%: $(B)/obj/tests/fuzz/fuzz_%.o $(call objs,tests/fuzz/alone.c tests/fuzz/seed.c) $(call lib,proxy pg base)
	@mkdir -p $(@D)
	$(call say,ld,$@)
	$(Q)$(CC) $(CFLAGS_) $(LDFLAGS_) -fsanitize=fuzzer -o $@ $^ $(LIBS_mere-proxy)

# A bench client that starts its own Postgres for the baseline; libpq in the same process.
$(B)/bin/mere-bench: $(call objs,$(BENCH_SRCS)) $(call lib,pg base)
	@mkdir -p $(@D)
	$(call say,ld,$@)
	$(Q)$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ $(LIBS_mered) -lm

# What mere-proxy is compared with: the least that a proxy can do.
$(B)/bin/plain-relay: $(call objs,tests/bench/plain/relay.c) $(call lib,base)
	@mkdir -p $(@D)
	$(call say,ld,$@)
	$(Q)$(CC) $(CFLAGS_) $(LDFLAGS_) -o $@ $^ -lcrypto

# --- what people type ----------------------------------------------------------------------------------------------------

help:
	@sed -n '/^##/s/^## //p' $(firstword $(MAKEFILE_LIST))

## make deps        install the Debian packages Mere needs (root or sudo; nothing when all are there)
deps:
	@tools/deps.sh run

## make deps-test   the same for the tests and the checks
deps-test:
	@tools/deps.sh run test drivers clients terraform

## make run         start Mere on ./data (DATA=dir: there) in the foreground; Ctrl-C stops all it started
run:
	@tools/run.sh

## make test        every test
test:
	@tools/test.sh

## make unit        the unit tests (VARIANT=asan|tsan for the sanitized ones)
unit: $(B)/bin/unit-tests $(BINS)
	@tools/test.sh --unit $(B)

## make e2e         the end-to-end tests on real Postgres (T='-k name' passes words on to pytest)
e2e: all
	@tools/test.sh --e2e $(B) $(T)

## make demo        a scripted tour on its own data directory, which checks every result
demo: all
	@tools/demo.sh

## make lint        floors, ownership, limits, warnings as errors (gcc and clang), format, scripts
lint:
	@tools/lint.sh

## make slow        the end-to-end tests that take long: exactness at full numbers, families, kills at every point, storms
slow: all
	@tools/test.sh --e2e $(B) -m slow

## make regress     Postgres's own regression suite, directly and through mere-proxy
regress: all
	@tools/regress.sh
	@tools/test.sh --e2e $(B) -m slow -k test_regress

## make bench       measure, print a table, write build/bench/*.json
bench: all $(if $(BENCH_SRCS),$(B)/bin/mere-bench $(B)/bin/plain-relay)
	@tools/bench.sh $(B) $(T)

## make asan        unit tests and end-to-end tests on the sanitized build
asan:
	@$(MAKE) --no-print-directory VARIANT=asan unit e2e

## make tsan        unit tests under the thread sanitizer
tsan:
	@$(MAKE) --no-print-directory VARIANT=tsan unit

## make fuzz        the fuzz targets with libFuzzer, T=60 seconds each (F='route waker' picks some)
fuzz:
	@tools/deps.sh run fuzz
	@$(MAKE) --no-print-directory VARIANT=fuzz fuzz-bins
	@T='$(or $(T),60)' tools/fuzz.sh $(or $(OUT),build/fuzz) $(F)

## make crash       build with crash points into build/crash
crash:
	@$(MAKE) --no-print-directory VARIANT=crash all

## make fresh       both README commands in a newly bootstrapped minimal Debian 12, as root and as a user with sudo
fresh:
	@tools/fresh.sh

## make gen         write the generated files (*.gen.h) from openapi.yaml and migrations/
gen:
	@set -e; for g in $(sort $(wildcard tools/gen_*.py)); do echo "  gen  $$g"; $(PYTHON) $$g; done

# The last commit's day; where there is no git, that of the package.
MAN_DATE = $(or $(shell git log -1 --format=%cs 2>/dev/null),$(if $(SOURCE_DATE_EPOCH),$(shell date -u -d @$(SOURCE_DATE_EPOCH) +%F)))

## make man         the manual page of mere, build/mere.1
man: $(B)/mere.1
$(B)/mere.1: $(B)/bin/mere
	$(Q)$< __man -- '$(MAN_DATE)' >$@

## make install     PREFIX=/usr/local DESTDIR= SYSCONFDIR=/etc UNITDIR=PREFIX/lib/systemd/system
# The daemons live together in lib/mere, where mered finds the others beside itself; an existing mere.conf stays.
install: all man
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin sbin lib/mere lib/sysusers.d lib/tmpfiles.d share/doc/mere share/man/man1 share/man/man8 \
	    share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d) \
	  $(DESTDIR)$(SYSCONFDIR)/mere $(DESTDIR)$(UNITDIR)
	install -m 0755 $(B)/bin/mere $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(filter-out %/mere,$(BINS)) $(DESTDIR)$(PREFIX)/lib/mere
	ln -sf ../lib/mere/mered $(DESTDIR)$(PREFIX)/sbin/mered
	install -m 0644 $(B)/mere.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 0644 packaging/man/mered.8 $(DESTDIR)$(PREFIX)/share/man/man8
	$(B)/bin/mere completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/mere
	$(B)/bin/mere completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_mere
	$(B)/bin/mere completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mere.fish
	install -m 0644 README.md LICENSE CHANGELOG.md openapi.yaml docs/operations.md $(DESTDIR)$(PREFIX)/share/doc/mere
	install -m 0644 packaging/sysusers/mere.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d
	install -m 0644 packaging/tmpfiles/mere.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	set -e; for unit in packaging/systemd/*; do \
	  sed 's,/usr/sbin/mered,$(PREFIX)/sbin/mered,; s,/usr/share/doc,$(PREFIX)/share/doc,; s,/etc/mere/mere.conf,$(SYSCONFDIR)/mere/mere.conf,' \
	    $$unit >$(DESTDIR)$(UNITDIR)/$${unit##*/}; chmod 0644 $(DESTDIR)$(UNITDIR)/$${unit##*/}; done
	[ -e $(DESTDIR)$(SYSCONFDIR)/mere/mere.conf ] || install -m 0644 packaging/mere.conf $(DESTDIR)$(SYSCONFDIR)/mere

## make deb         the Debian packages, in build/deb, and what lintian says of them
deb:
	@tools/deb.sh

## make clean       remove what was built (a running Mere's ./data stays)
clean:
	@tools/clean.sh

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
