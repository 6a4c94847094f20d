#!/usr/bin/env bash
# tests/run.sh [--device NAME] [--only SUITE]
#
# Installs what is missing (Debian), builds in ./build, runs the suites on the devices of the table below, prints op x
# device x cases x worst error / tolerance, and exits 1 when anything failed, a device or a case is absent.
#
#   --device NAME   a device of the table, or any name that xft_device_open takes (then with the whole grid of cases)
#   --only SUITE    one of the suites listed at the end of this file
#
# XFT_BUILD: the build folder (default: build). XFT_NO_INSTALL=1: fail instead of installing.
set -u -o pipefail
cd "$(dirname "$0")/.."
root=$PWD
build=${XFT_BUILD:-$root/build}
logs=$build/test-logs
only_device= only_suite=
while [ $# -gt 0 ]; do
    case $1 in
    --device) only_device=${2:?--device needs a name}; shift 2 ;;
    --only) only_suite=${2:?--only needs a suite}; shift 2 ;;
    *) sed -n '2,11p' "$0" | cut -c 3-; exit 2 ;;
    esac
done

# ---- What a bare Debian 12 lacks ------------------------------------------------------------------------------------
. tests/packages.sh

# SwiftShader comes with chromium, which the report is opened in.
swiftshader=${XFT_SWIFTSHADER:-/usr/lib/chromium/vk_swiftshader_icd.json}

# ---- Devices: name, cases, name for xft_device_open, environment ----------------------------------------------------
arch=$(uname -m)
icd=/usr/share/vulkan/icd.d
vendors=/etc/OpenCL/vendors
devices="
lavapipe     full   vulkan:0  VK_ICD_FILENAMES=$icd/lvp_icd.$arch.json
pocl         full   opencl:0  OCL_ICD_VENDORS=$vendors/pocl.icd
rusticl      small  opencl:0  OCL_ICD_VENDORS=$vendors/rusticl.icd RUSTICL_ENABLE=llvmpipe
swiftshader  small  vulkan:0  VK_ICD_FILENAMES=$swiftshader
lavapipe-4   small  vulkan:0  VK_ICD_FILENAMES=$icd/lvp_icd.$arch.json LP_NATIVE_VECTOR_WIDTH=128
lavapipe-16  small  vulkan:0  VK_ICD_FILENAMES=$icd/lvp_icd.$arch.json LP_NATIVE_VECTOR_WIDTH=512
"
if [ -n "$only_device" ]; then
    row=$(grep -E "^$only_device " <<<"$devices")
    devices=${row:-"$only_device full $only_device XFT_TEST=1"}
fi

# each_device FUNCTION…: calls it with name, set and device; the environment is set meanwhile.
each_device() {
    local name set device environment
    while read -r name set device environment; do
        [ -n "$name" ] || continue
        # shellcheck disable=SC2086
        (export $environment; "$@" "$name" "$set" "$device" </dev/null) || failures=$((failures + 1))
    done <<<"$devices"
}

# ---- Results --------------------------------------------------------------------------------------------------------
failures=0 passed=0 failed=0
synthesis=$logs/synthesis
begin() { printf '\n==== %s\n' "$*"; }
check() { # check NAME COMMAND…: one plain check, counted
    local name=$1
    shift
    if "$@"; then
        echo "ok       $name"
        echo "1 0" >>"$synthesis"
    else
        echo "FAILED   $name"
        echo "0 1" >>"$synthesis"
        return 1
    fi
}

criterion() { # criterion LABEL PROGRAM: a Criterion suite; its own synthesis line is counted
    local log=$logs/$1.log
    "${@:2}" --color=never -j2 --timeout 1200 2>&1 | tee "$log"
    local status=${PIPESTATUS[0]}
    local line
    line=$(grep 'Synthesis: Tested' "$log" | tail -1)
    if [ -z "$line" ]; then
        echo "FAILED   $1: no synthesis"
        echo "0 1" >>"$synthesis"
        return 1
    fi
    sed -E 's/.*Passing: ([0-9]+).*Failing: ([0-9]+).*/\1 \2/' <<<"$line" >>"$synthesis" # crashes count as failing
    return "$status"
}

# ---- Suites ---------------------------------------------------------------------------------------------------------
ops_on() {
    begin "ops on $1 ($2 cases)"
    XFT_TEST_LABEL=$1 XFT_TEST_SET=$2 XFT_TEST_DEVICE=$3 XFT_TEST_REPORT=$logs/ops.report \
        criterion "ops-$1" "$build/tests/xft_test_ops"
}

# Beside the devices: the references themselves behind the test driver, which runs late and out of order.
suite_ops() {
    : >"$logs/ops.report"
    each_device ops_on
    ops_on references full test || failures=$((failures + 1))
    begin "op x device: cases, worst error / tolerance (normalised mean squared error against double)"
    check "every op has passing cases on every device" awk \
        -v names="$(awk '{ printf "%s ", $1 }' <<<"$devices") references" -f tests/table.awk \
        "$build/tests/op_functions.def" "$logs/ops.report" || failures=$((failures + 1))
    "$build/tests/xft_opcheck" --exceptions
}

runtime_on() {
    begin "runtime on $1"
    XFT_TEST_DEVICE=$3 criterion "runtime-$1" "$build/tests/xft_test_runtime"
}

suite_runtime() { each_device runtime_on; }

# Programs under tools. Each tool is first shown to see a bug that is planted for it.
layers() {
    env VK_ICD_FILENAMES=$icd/lvp_icd.$arch.json VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation \
        VK_LAYER_ENABLES=VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT:VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT \
        "$@"
}
# The layer that comes with the browser is newer than Debian's and knows races on shared memory. Debian's manifest names
# it, with the path changed.
newer_layer() {
    local folder=$build/newer-layer
    mkdir -p "$folder"
    sed -E "s#(\"library_path\": )\"[^\"]*\"#\1\"$(dirname "$swiftshader")/libVkLayer_khronos_validation.so\"#" \
        /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json >"$folder/VkLayer_khronos_validation.json"
    env VK_ICD_FILENAMES=$icd/lvp_icd.$arch.json VK_LAYER_PATH="$folder" VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation \
        VK_LAYER_VALIDATE_CORE=0 VK_LAYER_GPUAV_ENABLE=1 VK_LAYER_GPUAV_SHARED_MEMORY_DATA_RACE=1 "$@"
}
oclgrind_log=$logs/oclgrind.messages
under_oclgrind() {
    echo /usr/lib/oclgrind/liboclgrind-rt-icd.so >"$build/oclgrind.icd"
    rm -f "$oclgrind_log"
    env OCL_ICD_VENDORS="$build/oclgrind.icd" OCLGRIND_LOG="$oclgrind_log" OCLGRIND_DATA_RACES=1 OCLGRIND_CHECK_API=1 \
        OCLGRIND_MAX_ERRORS=20 "$@"
}
says() { # says PATTERN COMMAND…: the command's output holds the pattern
    "${@:2}" >"$logs/says" 2>&1
    grep -qE "$1" "$logs/says" || { head -5 "$logs/says"; return 1; }
}
quiet() { # quiet PATTERN COMMAND…: the command succeeds and its output does not hold the pattern
    "${@:2}" >"$logs/quiet" 2>&1 || { tail -5 "$logs/quiet"; return 1; }
    ! grep -E -m5 "$1" "$logs/quiet"
}
silent_oclgrind() { # the command succeeds, and oclgrind has nothing to say
    if under_oclgrind "$@" >"$logs/quiet" 2>&1 && [ ! -s "$oclgrind_log" ]; then return 0; fi
    tail -4 "$logs/quiet"
    head -8 "$oclgrind_log"
    return 1
}
covered() { grep -E '^(kernels that ran|[0-9]+ kernels ran|cannot run here)' "$logs/quiet" | fold -s -w 116; }
noticed_by_oclgrind() { under_oclgrind "$@" >"$logs/says" 2>&1; grep -q 'data race' "$oclgrind_log"; }

suite_watched() {
    local complaint='Validation (Error|Warning)|UNASSIGNED|VUID|SYNC-HAZARD' op kernel
    begin "validation layers: GPU-assisted and synchronisation (lavapipe)"
    check "a planted write past a buffer is seen" says 'out of bounds' layers "$build/tests/xft_planted" overrun vulkan:0 &&
        check "nothing in any kernel" quiet "$complaint" layers "$build/tests/xft_opcheck" --device vulkan:0 --set small \
            --separate --coverage || failures=$((failures + 1))
    covered
    begin "newer validation layer: races on shared memory (lavapipe)"
    while read -r op kernel; do
        check "planted: $kernel without its barriers is seen" says SharedMemoryDataRace newer_layer \
            "$build/tests/xft_planted" barriers vulkan:0 "$op" "$kernel" || failures=$((failures + 1))
        check "nothing in $op" quiet SharedMemoryDataRace newer_layer "$build/tests/xft_opcheck" --device vulkan:0 \
            --set small --op "$op" || failures=$((failures + 1))
    done <<<"expert_group expert_count
router router
adafactor_statistics adafactor_rows"
    begin "oclgrind: bounds, races, API"
    while read -r op kernel; do
        check "planted: $kernel without its barriers is seen" noticed_by_oclgrind "$build/tests/xft_planted" barriers \
            opencl:0 "$op" "$kernel" || failures=$((failures + 1))
    done <<<"attention attention
expert_group expert_count
router router
adafactor_statistics adafactor_rows"
    check "nothing in any kernel" silent_oclgrind "$build/tests/xft_opcheck" --device opencl:0 --set small --separate \
        --coverage || failures=$((failures + 1))
    covered
}

build_sanitized() { # what an earlier build left must not pass for this one
    rm -f "$build"/sanitized/tests/{xft_faults,xft_opcheck}
    cmake -S . -B "$build/sanitized" -G Ninja -DXFT_SANITIZE=ON -DCMAKE_BUILD_TYPE=Debug >"$logs/sanitized.log" 2>&1 &&
        ninja -C "$build/sanitized" xft_faults xft_opcheck >>"$logs/sanitized.log" 2>&1 ||
        { tail -20 "$logs/sanitized.log"; return 1; }
}

# Everything that can fail fails once and for ever. Plain programs: Criterion's processes would hide leaks.
suite_faults() {
    begin "failing allocations and lost devices"
    check "test driver; host memory under lavapipe and PoCL" env VK_ICD_FILENAMES=$icd/lvp_icd.$arch.json \
        OCL_ICD_VENDORS=$vendors/pocl.icd "$build/tests/xft_faults" "$build/faults-cache" vulkan:0 opencl:0 ||
        failures=$((failures + 1))
    check "test driver under valgrind" valgrind -q --leak-check=full --show-leak-kinds=definite,indirect,possible \
        --errors-for-leak-kinds=definite,indirect,possible --error-exitcode=9 "$build/tests/xft_faults" "" ||
        failures=$((failures + 1))
    check "the build with sanitizers" build_sanitized || failures=$((failures + 1))
    check "test driver with sanitizers" "$build/sanitized/tests/xft_faults" "" || failures=$((failures + 1))
    check "ops on the test driver with sanitizers" quiet 'runtime error|Sanitizer' \
        "$build/sanitized/tests/xft_opcheck" --device test --set small || failures=$((failures + 1))
    # what PoCL itself keeps until the process ends is none of the library's leaks
    check "ops on PoCL with sanitizers" quiet 'runtime error|Sanitizer' env ASAN_OPTIONS=detect_leaks=0 \
        OCL_ICD_VENDORS=$vendors/pocl.icd "$build/sanitized/tests/xft_opcheck" --device opencl:0 --set small ||
        failures=$((failures + 1))
    check "every call of Vulkan (lavapipe)" env VK_ICD_FILENAMES=$icd/lvp_icd.$arch.json \
        "$build/tests/xft_vulkan_faults" || failures=$((failures + 1))
    check "every call of OpenCL (PoCL)" env OCL_ICD_VENDORS=$vendors/pocl.icd "$build/tests/xft_opencl_faults" ||
        failures=$((failures + 1))
}

suite_gradients() {
    begin "gradients of the references, approximations of the kernels (no device)"
    criterion gradients "$build/tests/xft_test_gradients"
}

formatted() { # op_params.h is a table that keeps its own format
    find runtime models host tests bench -name '*.[ch]' ! -name op_params.h -exec clang-format --dry-run -Werror {} +
}

suite_format() {
    begin "format of the C files"
    check "clang-format finds nothing" formatted || failures=$((failures + 1))
}

suite_embed() {
    begin "embedding"
    check "programs outside the tree" tests/embed.sh "$build" || failures=$((failures + 1))
}

oracle_on() {
    [ "$2" = full ] || [ -n "$only_device" ] || return 0
    begin "oracle on $1"
    XFT_TEST_LABEL=$1 XFT_TEST_DEVICE=$3 criterion "oracle-$1" "$build/tests/xft_test_oracle"
}

suite_oracle() { each_device oracle_on; }

suite_files() {
    begin "files"
    XFT_TEST_DEVICE=opencl criterion files "$build/tests/xft_test_files" || failures=$((failures + 1))
}

models_on() {
    [ "$2" = full ] || [ -n "$only_device" ] || return 0
    begin "models on $1"
    XFT_TEST_DEVICE=$3 criterion "models-$1" "$build/tests/xft_test_models"
}

suite_models() { each_device models_on; }

learning_on() {
    [ "$2" = full ] || [ -n "$only_device" ] || return 0
    begin "learning on $1"
    XFT_TEST_DEVICE=$3 criterion "learning-$1" "$build/tests/xft_test_learning" --filter 'learning/!(vulkan*)'
}

suite_learning() {
    each_device learning_on
    begin "learning on both APIs"
    criterion learning-both "$build/tests/xft_test_learning" --filter 'learning/vulkan*' || failures=$((failures + 1))
}

suite_pipeline() {
    begin "pipeline: stages, the whole of XFT, inspection (PoCL)"
    XFT_TEST_DEVICE=opencl criterion pipeline "$build/tests/xft_test_pipeline" || failures=$((failures + 1))
}

# Plan, allocator, and the growth of the peak resident memory over what the driver takes for itself, a process for each
# measurement. The first run of each fills the caches of kernels: compilers take memory, too.
memory_on() {
    [ "$2" = full ] || [ -n "$only_device" ] || return 0
    local stage small large
    begin "memory on $1"
    for stage in sft moe bf16 merge decode; do
        for size in small large; do
            "$build/tests/xft_memory" "$3" $stage $size >/dev/null
            declare $size="$("$build/tests/xft_memory" "$3" $stage $size)"
        done
        check "$stage" awk -v what="$stage" -v text="$small $large" 'BEGIN {
            if (split(text, n, " ") != 6) { print "no measurement"; exit 1 }
            driver = n[3] - n[1]; growth = n[6] - driver; MiB = 1024 * 1024
            printf "%-7s planned %7.1f MiB, allocator %+.2f%%, resident +%.1f MiB (%+.1f%%) over the driver'"'"'s %.1f\n",
                what, n[4] / MiB, 100 * (n[5] / n[4] - 1), growth / MiB, 100 * (growth / n[4] - 1), driver / MiB
            exit n[5] > 1.02 * n[4] || n[5] < 0.98 * n[4] || growth > 1.1 * n[4] || growth < 0.9 * n[4]
        }' || failures=$((failures + 1))
    done
    [ "$failures" = 0 ]
}

fit_table_holds() { diff <("$build/tests/xft_fit_table") <(grep -A9 '^| MoE | 16 GiB' README.md); }

suite_memory() {
    begin "what fits"
    check "the table of the README is what the library plans" fit_table_holds || failures=$((failures + 1))
    each_device memory_on
}

suite_tokenizer() {
    begin "tokenizer: ids and decodings of every family, files to refuse, speed (no device)"
    criterion tokenizer "$build/tests/xft_test_tokenizer"
}

suite_command() {
    begin "settings (no device)"
    criterion settings "$build/tests/xft_test_settings" || failures=$((failures + 1))
    begin "the command"
    tests/command.sh "$build" 2>&1 | tee "$logs/command.log"
    [ "${PIPESTATUS[0]}" = 0 ] || failures=$((failures + 1))
    sed -nE 's/^command: ([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$logs/command.log" >>"$synthesis"
}

suite_data() {
    begin "data: samples of every form and template, micro-batches, resume (no device)"
    criterion data "$build/tests/xft_test_data"
}

suite_run() {
    begin "training runs in folders"
    XFT_TEST_DEVICE=opencl criterion run "$build/tests/xft_test_run" || failures=$((failures + 1))
    XFT_TEST_DEVICE=vulkan criterion run "$build/tests/xft_test_run" --filter 'run/*resumes_exactly' ||
        failures=$((failures + 1))
}

suite_eval() {
    begin "eval: problems, samples, programs in the sandbox, pass@k (PoCL)"
    XFT_TEST_DEVICE=opencl criterion eval "$build/tests/xft_test_eval" || failures=$((failures + 1))
}

suite_bad_input() {
    begin "broken files and settings, given to the command (PoCL)"
    XFT_TEST_DEVICE=opencl python3 tests/bad_input.py "$build/xft" 2>&1 | tee "$logs/bad_input.log"
    [ "${PIPESTATUS[0]}" = 0 ] || failures=$((failures + 1))
    sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$logs/bad_input.log" >>"$synthesis"
}

suite_report() {
    begin "report: the page in headless Chromium"
    criterion report "$build/tests/xft_test_report" || failures=$((failures + 1))
}

suite_demo() {
    begin "demo: generators, what is held out, base model"
    local name what
    while read -r name what; do
        check "$what" python3 tests/demo.py "$name" "$build" </dev/null || failures=$((failures + 1))
    done <<<"same_seed the same seed gives the same tasks and corpus
tests_pass the tests of every task pass on its solution, and not on any function
held_out nothing held out is trained on; a renamed copy is noticed
tokenizer the tokenizer in the repository is the one that its recipe makes
base the base takes at most 8 MB and solves between 5% and 50%
whole host/demo/run.sh, two steps of each training"
}

suite_fuzz() {
    begin "fuzzing: each parser for a few seconds"
    check "no finding" env XFT_FUZZ_SEED=1 tests/fuzz/run.sh 4 || failures=$((failures + 1))
}

suite_readme() {
    begin "snippets of the README"
    tests/readme.sh "$build" 2>&1 | tee "$logs/readme.log"
    [ "${PIPESTATUS[0]}" = 0 ] || failures=$((failures + 1))
    sed -nE 's/^readme: ([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$logs/readme.log" >>"$synthesis"
}

# faults behind ops: its sanitized ops find PoCL's compiled kernels
suites="
format
gradients
runtime
ops
faults
watched
files
oracle
models
memory
learning
tokenizer
run
data
fuzz
bad_input
command
pipeline
eval
report
demo
embed
readme
"
if [ -n "$only_suite" ]; then
    declare -F "suite_$only_suite" >/dev/null || { echo "no suite $only_suite; there are:" $suites; exit 2; }
    suites=$only_suite
fi

# ---- Run ------------------------------------------------------------------------------------------------------------
mkdir -p "$logs"
: >"$synthesis"
started=$(date +%s)
begin "build"
# shellcheck disable=SC2086
need_packages $TEST_PACKAGES || { echo "FAILED: cannot install what is missing"; exit 1; }
cmake -S . -B "$build" -G Ninja >"$logs/cmake.log" 2>&1 || { tail -20 "$logs/cmake.log"; exit 1; }
ninja -C "$build" >"$logs/ninja.log" 2>&1 || { grep -E 'error|FAILED' -A5 "$logs/ninja.log" | head -40; exit 1; }
for suite in $suites; do
    "suite_$suite"
    echo "($suite: $(($(date +%s) - started)) s since the start)"
done
read -r passed failed <<<"$(awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }' "$synthesis")"
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ] && [ "$failures" = 0 ]
