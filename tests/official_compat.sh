#!/usr/bin/env bash
# tests/official_compat.sh CHECKOUT
#
# Folders of MoE models between this library and the reference implementation, both ways. CHECKOUT: a clone of the
# reference (github.com/ise-uiuc/xft). A small dense Llama is upcycled by `xft upcycle --compat official`; the
# reference's own class loads the folder with no missing and no unexpected key and gives the same logits (1e-3); it then
# saves the model with other weights, and this library loads that and gives the same logits again. The dense models
# that `xft merge` makes are loaded by transformers likewise.
#
# Makes its own Python environment (torch 2.2.2, transformers 4.37.0: 4 GB) in XFT_OFFICIAL_VENV (default:
# build/official). XFT_BUILD: the build folder (default: build). XFT_TEST_DEVICE: default opencl.
set -eu -o pipefail
checkout=$(cd "${1:?usage: tests/official_compat.sh CHECKOUT}" && pwd)
cd "$(dirname "$0")/.."
build=$(cd "${XFT_BUILD:-build}" && pwd)
venv=${XFT_OFFICIAL_VENV:-$build/official}
if [ ! -x "$venv/bin/python" ]; then
    . tests/packages.sh
    need_packages python3 python3-venv python3-pip
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q torch==2.2.2 'numpy<2' transformers==4.37.0 safetensors
fi
ninja -C "$build" xft_logits xft >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$venv/bin/python" tests/official_compat.py --checkout "$checkout" --xft "$build/xft" \
    --logits "$build/tests/xft_logits" --device "${XFT_TEST_DEVICE:-opencl}" --work "$work"
