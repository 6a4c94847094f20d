#!/usr/bin/env bash
# host/demo/make_base.sh [FOLDER]
#
# Makes the demo's base model from nothing: a corpus (corpus.py), a tokenizer (bpe.py), and one epoch of training from
# random weights. FOLDER: where it goes (default: host/demo/base, which is replaced). XFT_BUILD: the build folder.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
folder=${1:-host/demo/base}
build=${XFT_BUILD:-$PWD/build}
work=$build/demo/base
. tests/packages.sh
# shellcheck disable=SC2086
need_packages $DEMO_PACKAGES
cmake -S . -B "$build" -G Ninja >/dev/null && ninja -C "$build" xft

mkdir -p "$work/start"
python3 host/demo/corpus.py "$work/corpus.jsonl"
# The words of the prompt template are not in the corpus; as single tokens they cost less.
python3 host/demo/bpe.py "$work/start" "$work/corpus.jsonl" --size 1024 --words "$(cat host/demo/template.txt)"
cp host/demo/base/config.json "$work/start/"
rm -rf "$work/random" # the same bits come again
"$build/xft" init "$work/start" --output "$work/random"
"$build/xft" train --config host/demo/base.yaml --model "$work/random" --data "$work/corpus.jsonl" \
    --output "$work/model"
mkdir -p "$folder"
cp "$work"/model/{config.json,model.safetensors,tokenizer.json,tokenizer_config.json} "$folder/"
ls -l "$folder"
