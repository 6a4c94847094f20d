#!/usr/bin/env bash
# The README's snippets: the C program is built by the lines below it, and every line of shell is run as it stands, in a
# folder that holds small models and data under the names that the README uses. Lines that start a script of this
# repository (demo, tests, benchmarks) are only looked up: they have suites of their own.
# Usage: tests/readme.sh [BUILD_DIR]     prints "N passed, N failed"
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() { # check NAME COMMAND…
    local name=$1
    shift
    if "$@" >"$work/log" 2>&1 </dev/null; then passed=$((passed + 1)); echo "ok       readme: $name"
    else failed=$((failed + 1)); echo "FAILED   readme: $name"; tail -n 6 "$work/log"; fi
}

# ---- What the lines find -----------------------------------------------------------------------------------------------
mkdir "$work/here" && cd "$work/here" || exit 1
cp -r "$root/host/demo/base" base # short sequences are enough for it, not for the recipe
sed -i 's/"max_position_embeddings": 512/"max_position_embeddings": 1024/' base/config.json
ln -s base deepseek-coder-1.3b-base
for name in train evol-instruct-110k test; do
    for i in 1 2 3 4 5 6 7 8; do echo "{\"instruction\": \"Add $i.\", \"response\": \"def add(n):\\n    return n + $i\"}"; done >$name.jsonl
done
head -1 "$root/tests/problems/own.jsonl" | gzip | tee HumanEval.jsonl.gz >HumanEvalPlus.jsonl.gz
mkdir host && ln -s "$root/host/recipes" host/recipes
awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$root/README.md" >demo.c
export DESTDIR=$work/installed PATH=$build:$PATH

# ---- Lines -------------------------------------------------------------------------------------------------------------
line_of_shell() {
    local line=$1 word=${1%% *}
    case $word in
    cmake) (cd "$root" && bash -ec "$(sed -E "s#(-B|--build|--install) build#\1 '$build'#g" <<<"$line")") ;;
    cc) PKG_CONFIG_PATH=$(dirname "$(find "$DESTDIR" -name xftgpu.pc)") \
        LD_LIBRARY_PATH=$(dirname "$(find "$DESTDIR" -name libxftgpu.so)") bash -ec "${line/#cc/cc -std=c11 -Wall -Wextra -Wpedantic -Werror}" &&
        grep -qx '17 23' "$work/log" ;;
    */*) [ -x "$root/$word" ] ;;
    *) bash -ec "$line" ;;
    esac
}
while IFS= read -r line; do check "${line%%  *}" line_of_shell "$line"; done < <(
    awk '/^```/ { fenced = !fenced } !fenced && /^    [^ ]/ { sub(/^    /, ""); print }' "$root/README.md")

echo "readme: $passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -ge 15 ]
