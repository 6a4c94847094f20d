# Calls of every public function with one argument wrong, made from the public headers and xft/table.h (the last file):
#     {"device_open", true, call_device_open, 3, {{"name", POINTER}, …}},
# Each argument is wrong_… in call number i, and what test_refusals.c says is right in the others.
/\(\*xft_[a-z0-9_]+\)\(/ && /typedef/ { # a pointer to a function has no * in a prototype
    name = $0
    sub(/.*\(\*/, "", name)
    sub(/\).*/, "", name)
    is_function[name] = 1
}
/^    .*\(\*[a-z0-9_]+\)\(.*\);$/ && FILENAME ~ /table\.h$/ {
    result = $0
    sub(/^ +/, "", result)
    sub(/\(\*.*/, "", result)
    name = $0
    sub(/^[^(]*\(\*/, "", name)
    arguments = name
    sub(/\).*/, "", name)
    sub(/^[^)]*\)\(/, "", arguments)
    sub(/\);$/, "", arguments)
    count = arguments == "void" ? 0 : split(arguments, list, /, */)
    status = result ~ /^xft_status/
    printf "static xft_status call_%s(uint32_t wrong) {\n    (void)wrong;\n    %sxft_%s(", name, status ? "return " : "", name
    table = ""
    for (i = 1; i <= count; i++) {
        type = list[i]
        array = sub(/\[[^]]*\]$/, "", type)
        argument = type
        sub(/.*[ *]/, "", argument)
        type = substr(type, 1, length(type) - length(argument))
        sub(/ +$/, "", type)
        if (array) type = type " *"
        text = "\"" name "\", \"" argument "\""
        if (type in is_function) {
            kind = "FUNCTION"
            right = "(" type ")do_nothing"
            bad = "(" type ")0"
        } else if (type ~ /\*/) {
            kind = "POINTER"
            right = "(" type ")right_pointer(" text ", \"" type "\")"
            bad = "NULL"
        } else if (type == "bool") {
            kind = "BOOL"
            right = bad = "false"
        } else if (type == "float" || type == "double") {
            kind = "REAL"
            right = "(" type ")right_number(" text ")"
            bad = "(" type ")NAN"
        } else {
            kind = "NUMBER"
            right = "(" type ")right_number(" text ")"
            bad = "(" type ")wrong_number"
        }
        printf("%s\n        wrong == %d || wrong == ALL ? %s : %s", (i > 1 ? "," : ""), i - 1, bad, right)
        table = table (i > 1 ? ", " : "") "{\"" argument "\", " kind "}"
    }
    printf(");\n%s}\n", (status ? "" : "    return XFT_OK;\n"))
    rows = rows "    {\"" name "\", " (status ? "true" : "false") ", call_" name ", " count ", {" (count ? table : "{0}") "}},\n"
}
END { printf "static const public_function functions[] = {\n%s};\n", rows }
