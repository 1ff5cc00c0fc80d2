# limits.awk - a file is a sitting (900 lines), a function fits on a screen (80 lines, brace to brace)
#
# A function body begins with a lone { in the first column and ends with a } there, which is how clang-format leaves it.
FNR == 1 { start = 0 }
/^\{$/ { start = FNR; name = prev }
/^\}/ && start {
    if (FNR - start + 1 > 80)
        bad(start, "function of " FNR - start + 1 " lines: " name)
    start = 0
}
FNR == 901 { bad(FNR, "more than 900 lines") }
/[^ \t]/ && !/^[ \t]/ { prev = $0 }
function bad(line, what) {
    printf "%s:%d: %s\n", FILENAME, line, what
    failures++
}
END { exit failures > 0 }
