/*
 * config.c - settings from file, environment and flags, by table
 *
 * The main thread, before any other starts; later whoever reads the file again.  Prints only what is asked
 * for (config_help, config_print), never exits: the caller shows the error.
 */
#include "base/config.h"

#include <ctype.h>

#include "base/fs.h"
#include "base/text.h"

#define FILE_MAX_BYTES  1048576
#define VALUE_MAX_BYTES 65536
#define ENV_PREFIX      "MERE_"
#define SECRETS_DIR     "/run/secrets"
#define HELP_COLUMN     30

/* One value on its way: which key, what text, and how to name its origin in an error. */
struct setting {
    const struct config_key *key;
    const char *text;
    const char *origin;
    bool given; /* by anything but the default */
};

static const struct config_key *key_find(const struct config_key *keys, size_t n, const char *name,
                                         size_t len)
{
    for (size_t i = 0; i < n; i++) {
        size_t j = 0;

        if (strlen(keys[i].name) != len)
            continue;
        while (j < len && (name[j] == keys[i].name[j] || (name[j] == '_' && keys[i].name[j] == '-')))
            j++;
        if (j == len)
            return &keys[i];
    }
    return NULL;
}

static int bad_value(const struct setting *s, struct err *err, const char *must)
{
    return err_set(err, ERR_INVALID, "%s: \"%.100s\" is not a good value for %s, which must be %s", s->origin,
                   s->text, s->key->name, must);
}

static int apply_int(const struct setting *s, int64_t *ret, struct err *err)
{
    bool any = s->key->min == 0 && s->key->max == 0;
    int64_t min = any ? INT64_MIN : s->key->min, max = any ? INT64_MAX : s->key->max;
    char must[96];

    if (text_to_i64(s->text, min, max, ret))
        return 0;
    if (any)
        return bad_value(s, err, "a whole number");
    snprintf(must, sizeof(must), "a whole number from %lld to %lld", (long long)min, (long long)max);
    return bad_value(s, err, must);
}

static int apply(const struct setting *s, struct arena *a, void *strct, struct err *err)
{
    void *p = (char *)strct + s->key->offset;

    switch (s->key->type) {
    case CONFIG_STR:
        if (!text_is_utf8(s->text, strlen(s->text)))
            return bad_value(s, err, "UTF-8 text");
        *(const char **)p = arena_strdup(a, s->text);
        return *(const char **)p != NULL ? 0 : err_memory(err);
    case CONFIG_INT:
        return apply_int(s, p, err);
    case CONFIG_SIZE:
        return text_to_size(s->text, p) ? 0 : bad_value(s, err, "a size such as 512MB or 10GiB");
    case CONFIG_BOOL:
        return text_to_bool(s->text, p) ? 0 : bad_value(s, err, "true, false, on, off, 1 or 0");
    }
    return bad_value(s, err, "of a known type");
}

static struct setting *setting_of(struct setting *all, const struct config_key *keys,
                                  const struct config_key *k)
{
    return &all[k - keys];
}

static void take(struct setting *s, const char *text, const char *origin)
{
    s->text = text;
    s->origin = origin;
    s->given = true;
}

/* What a file holds that was made for one value: a line, with or without its end. */
static int from_value_file(struct arena *a, struct setting *s, const char *variable, const char *path,
                           struct err *err)
{
    struct err why = ERR_INIT;
    char *text;
    size_t len;

    if (fs_read(a, path, VALUE_MAX_BYTES, &text, &len, &why) < 0)
        return err_set(err, ERR_INVALID, "environment variable %s: %s cannot be read: %.200s", variable, path,
                       why.code == ERR_NOT_FOUND ? "it does not exist" : why.msg);
    if (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    if (strlen(text) != len || strchr(text, '\n') != NULL)
        return err_set(err, ERR_INVALID, "environment variable %s: %s must hold the value of %s in one line",
                       variable, path, s->key->name);
    take(s, text, arena_printf(a, "environment variable %s", variable));
    return 0;
}

static int from_env(struct arena *a, struct setting *all, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        char *name = arena_printf(a, ENV_PREFIX "%s", all[i].key->name);
        const char *in_file, *text, *path;

        for (char *c = name; *c != '\0'; c++)
            *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        in_file = arena_printf(a, "%s_FILE", name);
        text = getenv(name);
        path = getenv(in_file);
        if (text != NULL && path != NULL)
            return err_set(err, ERR_INVALID, "%s and %s are both in the environment; only one may be", name,
                           in_file);
        if (text != NULL)
            take(&all[i], text, arena_printf(a, "environment variable %s", name));
        if (path != NULL && from_value_file(a, &all[i], in_file, path, err) < 0)
            return -1;
    }
    return 0;
}

/* Files that a service manager or a container put there for us. */
static void from_credentials(struct arena *a, struct setting *all, size_t n)
{
    const char *const dirs[] = { getenv("CREDENTIALS_DIRECTORY"), SECRETS_DIR };

    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < N_ELEMENTS(dirs) && all[i].key->credential && !all[i].given; d++) {
            const char *path = dirs[d] != NULL ? arena_printf(a, "%s/%s", dirs[d], all[i].key->name) : NULL;

            if (path != NULL && fs_exists(path))
                take(&all[i], path, arena_printf(a, "credential %s", all[i].key->name));
        }
    }
}

/* One flag at argv[*i]; moves *i behind it. */
static int from_flag(struct arena *a, const struct config_key *keys, size_t n, struct setting *all,
                     char **argv, int argc, int *i, struct err *err)
{
    const char *word = argv[*i], *name = word + 2, *equals, *value;
    const struct config_key *k;
    size_t len;

    if (strncmp(word, "--", 2) != 0 || word[2] == '\0')
        return err_set(err, ERR_INVALID, "unexpected argument \"%.100s\" (see --help)", word);
    equals = strchr(name, '=');
    len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    k = key_find(keys, n, name, len);
    if (k == NULL)
        return err_set(err, ERR_INVALID, "unknown option --%.*s (see --help)", len > 100 ? 100 : (int)len,
                       name);
    if (equals != NULL) {
        value = equals + 1;
    } else if (k->type == CONFIG_BOOL) {
        value = "true";
    } else if (*i + 1 < argc) {
        value = argv[++*i];
    } else {
        return err_set(err, ERR_INVALID, "option --%s needs a value (%s)", k->name,
                       k->arg != NULL ? k->arg : "VALUE");
    }
    (*i)++;
    take(setting_of(all, keys, k), value, arena_printf(a, "option --%s", k->name));
    return 0;
}

static int from_flags(struct arena *a, const struct config_key *keys, size_t n, struct setting *all, int argc,
                      char **argv, struct err *err)
{
    for (int i = 1; i < argc;) {
        if (from_flag(a, keys, n, all, argv, argc, &i, err) < 0)
            return -1;
    }
    return 0;
}

/* The text without blanks at both ends; cuts in place. */
static char *trim(char *s)
{
    size_t n;

    s += strspn(s, " \t\r");
    n = strlen(s);
    while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL)
        s[--n] = '\0';
    return s;
}

static int from_line(struct arena *a, const struct config_key *keys, size_t n, struct setting *all,
                     const char *path, int number, char *line, const char *file_key, struct err *err)
{
    const char *origin = arena_printf(a, "%s line %d", path, number);
    char *text = trim(line), *equals = strchr(text, '=');
    const struct config_key *k;
    struct setting *s;

    if (text[0] == '\0' || text[0] == '#')
        return 0;
    if (equals == NULL)
        return err_set(err, ERR_INVALID, "%s: \"name = value\" is expected", origin);
    *equals = '\0';
    text = trim(text);
    k = key_find(keys, n, text, strlen(text));
    if (k == NULL || strcmp(k->name, file_key) == 0)
        return err_set(err, ERR_INVALID, "%s: unknown setting \"%.100s\"", origin, text);
    s = setting_of(all, keys, k);
    if (s->given)
        return err_set(err, ERR_INVALID, "%s: %s was already set at %s", origin, k->name, s->origin);
    take(s, trim(equals + 1), origin);
    return 0;
}

static int from_file(struct arena *a, const struct config_key *keys, size_t n, struct setting *all,
                     const char *path, bool may_be_absent, const char *file_key, struct err *err)
{
    struct err why = ERR_INIT;
    char *text, *line, *rest;
    size_t len;

    if (fs_read(a, path, FILE_MAX_BYTES, &text, &len, &why) < 0) {
        if (why.code == ERR_NOT_FOUND && may_be_absent)
            return 0;
        return err_set(err, ERR_INVALID, "the configuration file %s cannot be read: %.300s", path,
                       why.code == ERR_NOT_FOUND ? "it does not exist"
                       : why.detail[0] != '\0'   ? why.detail
                                                 : why.msg);
    }
    if (strlen(text) != len)
        return err_set(err, ERR_INVALID, "the configuration file %s is not a text file", path);
    rest = text;
    for (int number = 1; (line = strsep(&rest, "\n")) != NULL; number++) {
        if (from_line(a, keys, n, all, path, number, line, file_key, err) < 0)
            return -1;
    }
    return 0;
}

/*
 * Which file is only known after flags and environment, which override it: so those are collected apart, the
 * file in between, and the three laid over each other.
 */
static int collect(struct arena *a, const struct config_source *src, struct setting *ret, struct err *err)
{
    auto_free struct setting *over = xcalloc(src->n, sizeof(*over));
    const struct config_key *k =
        src->file_key != NULL ? key_find(src->keys, src->n, src->file_key, strlen(src->file_key)) : NULL;
    const struct setting *f = k != NULL ? &over[k - src->keys] : NULL;

    for (size_t i = 0; i < src->n; i++) {
        ret[i] = (struct setting){ .key = &src->keys[i], .text = src->keys[i].def, .origin = "default" };
        over[i] = (struct setting){ .key = &src->keys[i] };
    }
    if (from_env(a, over, src->n, err) < 0 ||
        from_flags(a, src->keys, src->n, over, src->argc, src->argv, err) < 0)
        return -1;
    if (f != NULL && (f->given ? f->text : k->def) != NULL &&
        from_file(a, src->keys, src->n, ret, f->given ? f->text : k->def, !f->given, k->name, err) < 0)
        return -1;
    for (size_t i = 0; i < src->n; i++)
        if (over[i].given)
            ret[i] = over[i];
    from_credentials(a, ret, src->n);
    return 0;
}

int config_load(struct arena *a, const struct config_source *src, void *strct, struct err *err)
{
    auto_free struct setting *all = xcalloc(src->n, sizeof(*all));

    if (collect(a, src, all, err) < 0)
        return -1;
    for (size_t i = 0; i < src->n; i++)
        if (all[i].text != NULL && apply(&all[i], a, strct, err) < 0)
            return -1;
    return 0;
}

static bool is_same(const struct config_key *k, const void *was, const void *now)
{
    const void *a = (const char *)was + k->offset, *b = (const char *)now + k->offset;

    switch (k->type) {
    case CONFIG_STR: {
        const char *x = *(const char *const *)a, *y = *(const char *const *)b;

        return x == y || (x != NULL && y != NULL && strcmp(x, y) == 0);
    }
    case CONFIG_INT:
        return *(const int64_t *)a == *(const int64_t *)b;
    case CONFIG_SIZE:
        return *(const uint64_t *)a == *(const uint64_t *)b;
    case CONFIG_BOOL:
        return *(const bool *)a == *(const bool *)b;
    }
    return false;
}

const char *config_fixed(struct arena *a, const struct config_source *src, const void *was, const void *now)
{
    const char *names = NULL;

    for (size_t i = 0; i < src->n; i++) {
        const struct config_key *k = &src->keys[i];

        if (!k->live && !is_same(k, was, now))
            names = names == NULL ? k->name : arena_printf(a, "%s, %s", names, k->name);
    }
    return names;
}

int config_print(struct arena *a, const struct config_source *src, struct err *err)
{
    auto_free struct setting *all = xcalloc(src->n, sizeof(*all));

    if (collect(a, src, all, err) < 0)
        return -1;
    for (size_t i = 0; i < src->n; i++) {
        const struct setting *s = &all[i];
        /* the file cannot name itself */
        bool comment = !s->given || (src->file_key != NULL && strcmp(s->key->name, src->file_key) == 0);

        if (s->given)
            printf("# %s\n", s->origin);
        if (s->key->help != NULL || s->given)
            printf("%s%s =%s%s\n", comment ? "#" : "", s->key->name, s->text != NULL ? " " : "",
                   s->text != NULL ? s->text : "");
    }
    return 0;
}

int config_read(struct arena *a, const struct config_key *keys, size_t n, const char *path, void *strct,
                struct err *err)
{
    auto_free struct setting *all = xcalloc(n, sizeof(*all));

    for (size_t i = 0; i < n; i++)
        all[i] = (struct setting){ .key = &keys[i] };
    if (from_file(a, keys, n, all, path, false, "", err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (all[i].given && apply(&all[i], a, strct, err) < 0)
            return -1;
    }
    return 0;
}

void config_help(const struct config_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct config_key *k = &keys[i];
        int width;

        if (k->help == NULL)
            continue;
        width = printf("  --%s%s%s", k->name, k->type == CONFIG_BOOL ? "" : " ",
                       k->type == CONFIG_BOOL ? ""
                       : k->arg != NULL       ? k->arg
                                              : "VALUE");
        if (width >= HELP_COLUMN) {
            printf("\n");
            width = 0;
        }
        printf("%*s%s", HELP_COLUMN - width, "", k->help);
        if (k->def != NULL && k->def[0] != '\0' && k->type != CONFIG_BOOL)
            printf(" (default %s)", k->def);
        printf("\n");
    }
}

static bool is_host(const char *s, size_t len, bool v6)
{
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        bool ok = isalnum((unsigned char)c) || c == '.' || (v6 ? c == ':' || c == '%' : c == '-' || c == '_');

        if (!ok)
            return false;
    }
    return len > 0 && len <= 253;
}

int config_host_port(struct arena *a, const char *text, const char **ret_host, int *ret_port, struct err *err)
{
    bool v6 = text[0] == '[';
    const char *host = v6 ? text + 1 : text;
    const char *end = v6 ? strchr(host, ']') : strchr(host, ':');
    const char *port = end == NULL ? NULL : v6 ? end + 1 : end;
    int64_t number;
    char *copy;

    if (port == NULL || port[0] != ':' || !is_host(host, (size_t)(end - host), v6) ||
        !text_to_i64(port + 1, 0, 65535, &number))
        return err_set(
            err, ERR_INVALID,
            "\"%.100s\" is not an address: HOST:PORT is expected, such as 127.0.0.1:7432 or [::1]:7432",
            text);
    copy = arena_strndup(a, host, (size_t)(end - host));
    if (copy == NULL)
        return err_memory(err);
    *ret_host = copy;
    *ret_port = (int)number;
    return 0;
}
