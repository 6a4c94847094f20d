# Sourced by the commands of the project: Debian packages, installed only when they are missing.
# XFT_NO_INSTALL=1: fail instead of installing.

BUILD_PACKAGES="gcc g++ libc6-dev cmake ninja-build pkg-config libcriterion-dev libvulkan-dev opencl-headers
    ocl-icd-opencl-dev glslang-tools spirv-tools ca-certificates libjansson-dev libpcre2-dev libutf8proc-dev libyaml-dev
    zlib1g-dev"
DEMO_PACKAGES="$BUILD_PACKAGES pocl-opencl-icd python3"
TEST_PACKAGES="$BUILD_PACKAGES vulkan-validationlayers mesa-vulkan-drivers mesa-opencl-icd pocl-opencl-icd oclgrind
    libopenblas-dev libclblast-dev valgrind clang libclang-rt-14-dev clang-format python3 chromium mandoc man-db zsh fish"
PORTABILITY_PACKAGES="$BUILD_PACKAGES mesa-vulkan-drivers intel-opencl-icd clang-15 libclang-common-15-dev
    clang-16 libclang-common-16-dev rocm-device-libs libclc-15 llvm-14 python3 python3-pip unzip"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

need_packages() { # need_packages PACKAGE…
    local missing=() package log
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    echo "installing: ${missing[*]}"
    [ "${XFT_NO_INSTALL:-}" = 1 ] && return 1
    log=$(mktemp)
    as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq \
        --no-install-recommends "${missing[@]}" >"$log" 2>&1 || { tail -5 "$log"; return 1; }
    rm -f "$log"
}
