#!/usr/bin/env bash
# Embedding: installs the built library into a fresh prefix and builds programs against it as strangers would: by
# find_package, by pkg-config, by dlopen alone, with an own VkDevice, with an own cl_context, without any loader; and
# one that trains.
# Usage: tests/embed.sh [BUILD_DIR]     prints "N passed, N failed"
export CMAKE_GENERATOR=Ninja
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
passed=0 failed=0
check() { # check NAME COMMAND…
  local name=$1; shift
  if "$@" > "$work/log" 2>&1; then passed=$((passed + 1)); echo "embed: $name: $(tail -n 1 "$work/log")"
  else failed=$((failed + 1)); echo "embed: $name FAILED"; cat "$work/log"; fi
}
cp -r "$root/tests/embed" "$work/src"
cd "$work" || exit 1
check install cmake --install "$build" --prefix "$prefix"
export PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name xftgpu.pc)")
export LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name libxftgpu.so)")
strict="-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror"
flags="$strict $(pkg-config --cflags --libs xftgpu)"

for header in "$prefix"/include/xft/*.h; do
  echo "#include \"$header\"" > one.c; cp one.c one.cc
  check "$(basename "$header") alone in C11" cc $strict -I"$prefix/include" -fsyntax-only one.c
  check "$(basename "$header") alone in C++" c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -I"$prefix/include" -fsyntax-only one.cc
done
check "find_package" cmake -S src -B found -DCMAKE_PREFIX_PATH="$prefix"
check "find_package build" cmake --build found
check "pkg-config build" cc src/linked.c $flags -o linked
check "plugin build" cc $strict -I"$prefix/include" src/plugin.c -o plugin -ldl
check "adopt_vulkan build" cc src/adopt_vulkan.c $flags -lvulkan -o adopt_vulkan
check "adopt_opencl build" cc src/adopt_opencl.c $flags -Wno-deprecated-declarations -lOpenCL -o adopt_opencl
check "train build" cc src/train.c $flags -o train
check "no_loader build" cc $strict -shared -fPIC src/no_loader.c -o no_loader.so -ldl
for device in vulkan opencl; do
  check "found on $device" ./found/linked $device
  check "pkg-config on $device" ./linked $device
  check "plugin on $device" ./plugin "$LD_LIBRARY_PATH/libxftgpu.so" $device
  check "small models for $device" "$build/tests/xft_make_small" "$work/small-$device" $device
  check "train on $device" ./train $device "$work/small-$device"
done
check "own VkDevice" ./adopt_vulkan
check "own cl_context" ./adopt_opencl
without_loader() { # must end cleanly, with exit code 2 and a message that names both loaders
  LD_PRELOAD=$work/no_loader.so ./linked auto > out 2>&1; local code=$?
  cat out
  [ $code -eq 2 ] && grep -qi vulkan out && grep -qi opencl out
}
check "no loader at all" without_loader
linked_loader() { ! ldd "$LD_LIBRARY_PATH/libxftgpu.so" | grep -iE 'vulkan|OpenCL|clblast'; }
check "no loader is linked" linked_loader
echo "embed: $passed passed, $failed failed"
[ $failed -eq 0 ]
