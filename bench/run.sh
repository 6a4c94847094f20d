#!/usr/bin/env bash
# bench/run.sh ops  [--op NAME] [--case TEXT] [--alone] [--device NAME] [--json FILE]
# bench/run.sh step [--model NAME] [--stage sft|moe|merge|decode] [--device NAME] [--dtype f32|bf16]
#                   [--repeats N] [--profile] [--json FILE]
#
# ops:  every op (or one) at the shapes of real models on every device, or one: time, GFLOP/s, GB/s, share of the
#       device's roofline, and the peers: OpenBLAS, CLBlast as shipped and tuned, a plain 8x8-tile kernel. A ratio
#       x2.00 means twice as fast as that peer, the median of paired repeats. Before it is timed every case is checked
#       as in the suite ops (products against OpenBLAS); a wrong result or an op without a row ends it with 1.
#       --case: only cases whose label holds TEXT. --alone: no peers.
# step: whole training steps and decoding of tiny and p1, or of a named model: tokens/s, memory, model GFLOP/s beside
#       OpenBLAS and the device's own product. --profile: device time of each op.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD
build=${XFT_BUILD:-$root/build}
usage() { sed -n '2,13p' "$0" | cut -c 3-; exit 2; }
[ $# -ge 1 ] || usage
what=$1
shift
case $what in
ops) program=xft_bench_ops ;;
step) program=xft_bench_step ;;
*) echo "unknown benchmark \"$what\""; usage ;;
esac

. tests/packages.sh
# shellcheck disable=SC2086
need_packages $TEST_PACKAGES || exit 1
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja >"$build/cmake.log" 2>&1 || { tail -20 "$build/cmake.log"; exit 1; }
ninja -C "$build" "$program" >"$build/ninja.log" 2>&1 || { tail -40 "$build/ninja.log"; exit 1; }

# OpenBLAS of Debian 12 takes recent processors for a Prescott: name the kernels by what the processor can do.
if [ -z "${OPENBLAS_CORETYPE:-}" ]; then
    if grep -qw avx512f /proc/cpuinfo; then export OPENBLAS_CORETYPE=SkylakeX
    elif grep -qw avx2 /proc/cpuinfo; then export OPENBLAS_CORETYPE=Haswell; fi
fi
export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-$(nproc)}
# PoCL's workers may share a core after an idle moment.
export POCL_AFFINITY=${POCL_AFFINITY:-1}
XFT_BENCH_COMMIT=$(git rev-parse --short HEAD 2>/dev/null)
export XFT_BENCH_COMMIT
exec "$build/bench/$program" "$@"
