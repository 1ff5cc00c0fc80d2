# layers.awk - the floors of src/: includes go down, siblings never include each other
#
#   base < meta, pg, store < branch < scheduler < api, proxy < cmd
#
# Reads C files, takes the folder from the path and from the include (which is written from src/).  Some folders see less of
# a lower floor than all of it; MAY lists those.  Exit status 1 when something is wrong.
BEGIN {
    split("base 0 meta 1 pg 1 store 1 branch 2 scheduler 3 api 4 proxy 4 cmd 5", words, " ")
    for (i = 1; i in words; i += 2)
        floor[words[i]] = words[i + 1]
    # The data path knows bytes and the wake socket, and what to ask in a session that it parks; the helpers and the CLI stay small.
    may["proxy"] = "^(base/|pg/(park|scram|wire)\\.h$)"
    may["cmd/mere"] = "^base/"
    may["cmd/mere-exec"] = "^base/"
    may["cmd/mere-wal"] = "^(base/|pg/walseg\\.h$)"
    may["cmd/mere-proxy"] = "^(base/|proxy/)"
    # HTTP writes what is wanted; it does not reach into how it comes true.
    may_above["api scheduler"] = "^scheduler/(doctor|intent|lag|moment|schema|sched)\\.h$"
    may_above["api branch"] = "^branch/history\\.h$"
}
FNR == 1 {
    path = FILENAME
    sub(/^\.\//, "", path)
    split(path, part, "/")
    from = part[1] == "src" ? part[2] : "cmd"
    unit = from
    if (from == "cmd") {
        unit = path
        sub(/\.[ch]$/, "", unit)
        if (index(unit, "cmd/mere/") == 1)
            unit = "cmd/mere"
    }
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    inc = $0
    sub(/^[^"]*"/, "", inc)
    sub(/".*/, "", inc)
    to = inc
    sub(/\/.*/, "", to)
    if (index(inc, "/") == 0 || !(to in floor)) {
        if (inc != "version.h" && unit != "cmd/mere")
            bad("\"" inc "\" is not written from src/")
    } else if (floor[to] > floor[from])
        bad("upward include of " inc)
    else if (floor[to] == floor[from] && to != from)
        bad("sideways include of " inc)
    else if (to != from && (unit in may) && inc !~ may[unit])
        bad(unit " may not include " inc)
    else if (((from " " to) in may_above) && inc !~ may_above[from " " to])
        bad(from " may not include " inc)
}
function bad(what) {
    printf "%s:%d: %s\n", FILENAME, FNR, what
    failures++
}
END { exit failures > 0 }
