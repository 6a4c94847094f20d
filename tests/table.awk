# The table of ops: op_functions.def, then lines "op device cases failed error tolerance forms". names: the devices in
# order. Below it the forms whose cases did not run, as the device or the build has none. Fails when an op has no passing
# case on a device.
BEGIN { count = split(names, device, " ") }
FNR == NR {
    if (match($0, /\(.*\)/)) op[++ops] = substr($0, RSTART + 1, RLENGTH - 2)
    next
}
{
    seen[$1, $2] = $3 > 0 && $4 == 0
    if (NF > 6) absent = absent "\n    " $1 " on " $2 ":"
    for (i = 7; i <= NF; i++) absent = absent " " $i
    text[$1, $2] = $3 == 0 ? "no case" : $4 > 0 ? $4 " of " $3 " FAILED" : $6 > 0 ? $3 " " $5 "/" $6 : $3 " exact"
}
END {
    printf "%-24s", "op"
    for (d = 1; d <= count; d++) printf " %-20s", device[d]
    print ""
    for (i = 1; i <= ops; i++) {
        printf "%-24s", op[i]
        for (d = 1; d <= count; d++) {
            key = op[i] SUBSEP device[d]
            printf " %-20s", key in text ? text[key] : "DID NOT FINISH"
            bad += !seen[key]
        }
        print ""
    }
    if (absent != "") printf "not run, as the device or this build has no such kernel:%s\n", absent
    exit bad > 0
}
