#!/usr/bin/env bash
# host/demo/run.sh [--seeds N] [--device NAME] [--output FOLDER] [-- FLAG…]
#
# All of XFT on a small model, from a clean clone: installs what is missing (Debian), builds, makes short Python tasks
# with unit tests, trains the dense baseline, upcycles, tunes, merges, and counts the held-out tasks that each model
# solves. Prints the table and where the report is. The same samples and epochs go into the baseline and into XFT.
#
#   --seeds N        N runs that differ in all random numbers of training: mean and spread in the table
#   --device NAME    a device that `xft devices` lists (default: the fastest one)
#   --output FOLDER  where everything goes (default: build/demo); what is there and matches is not done again
#   -- FLAG…         settings for `xft run`, as in `-- --max-steps 5 --max-problems 10`
set -eu -o pipefail
cd "$(dirname "$0")/../.."
build=${XFT_BUILD:-$PWD/build}
seeds=1 device=auto output=$build/demo
while [ $# -gt 0 ]; do
    case $1 in
    --seeds) seeds=${2:?--seeds needs a number}; shift 2 ;;
    --device) device=${2:?--device needs a name}; shift 2 ;;
    --output) output=${2:?--output needs a folder}; shift 2 ;;
    --) shift; break ;;
    *) sed -n '2,11p' "$0" | cut -c 3-; exit 2 ;;
    esac
done
. tests/packages.sh
# shellcheck disable=SC2086
need_packages $DEMO_PACKAGES
# The interpreter itself: a wrapper that starts it would be a second process, which the sandbox of the tests forbids.
PATH=$(python3 -c 'import os, sys; print(os.path.dirname(os.path.realpath(sys.executable)))'):$PATH
mkdir -p "$output"
echo "building in $build"
{ cmake -S . -B "$build" -G Ninja && ninja -C "$build" xft; } >"$output/build.log" 2>&1 ||
    { tail -20 "$output/build.log"; exit 1; }

python3 host/demo/tasks.py "$output"
python3 host/demo/structure.py "$output/train.jsonl" -- "$output/test-problems.jsonl" \
    "$output/valid-problems.jsonl"

folders=()
for seed in $(seq "$seeds"); do
    folders+=("$output/seed-$seed")
    "$build/xft" run host/demo/pipeline.yaml --model host/demo/base --data "$output/train.jsonl" \
        --eval_data "$output/valid.jsonl" --problems "$output/test-problems.jsonl" --output "$output/seed-$seed" \
        --seed "$seed" --device "$device" "$@"
done
echo
python3 host/demo/table.py "${folders[@]}"
echo
echo "report: $output/seed-1/report.html"
