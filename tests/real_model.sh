#!/usr/bin/env bash
# tests/real_model.sh MODEL_DIR DATA [PROBLEMS]
#
# A real model through the whole of XFT, as a person would do it: upcycled, trained, merged, asked, compared with
# transformers. Outside the fast suites: plan for half an hour on two CPU cores.
#
#   MODEL_DIR   folder of SmolLM2-135M-Instruct in the layout of Hugging Face (or another model that answers in ChatML)
#   DATA        JSONL with instructions; its last 16 samples serve for evaluation
#   PROBLEMS    problem file of HumanEval (JSONL, also .gz; default: the tasks of the demo, in the same form)
#
# XFT_DEVICE (opencl: PoCL)  XFT_STEPS (30)  XFT_MERGE_STEPS (12)  XFT_BATCH (4)  XFT_LENGTH (256)
# XFT_WORK: folder for what is made, kept, and gone on with (default: a temporary one)
# XFT_VENV: virtual environment with torch and transformers (default: made in the work folder)
set -u -o pipefail
[ $# -ge 2 ] || { sed -n '2,13p' "$0" | cut -c 3-; exit 2; }
base=$(realpath "$1") data=$(realpath "$2") problems=${3:+$(realpath "$3")}
cd "$(dirname "$0")/.." || exit 1
root=$PWD
build=${XFT_BUILD:-$root/build}
device=${XFT_DEVICE:-opencl} steps=${XFT_STEPS:-30} merge_steps=${XFT_MERGE_STEPS:-12}
batch=${XFT_BATCH:-4} length=${XFT_LENGTH:-256}
. tests/packages.sh
if [ ! -x "$build/xft" ]; then
    # shellcheck disable=SC2086
    need_packages $TEST_PACKAGES && cmake -S . -B "$build" -G Ninja >/dev/null && ninja -C "$build" || exit 1
fi
work=${XFT_WORK:-$(mktemp -d)}
mkdir -p "$work" && cd "$work" || exit 1
[ -n "${XFT_WORK:-}" ] || trap 'rm -rf "$work"' EXIT
venv=${XFT_VENV:-$work/venv}
xft=$build/xft
failures=0

check() { # check NAME COMMAND…
    local name=$1 start=$SECONDS
    shift
    if "$@" >log 2>&1; then
        printf 'ok       %-72s %5d s\n' "$name" $((SECONDS - start))
    else
        printf 'FAILED   %-72s %5d s\n' "$name" $((SECONDS - start))
        failures=$((failures + 1))
    fi
    tail -n 2 log | cut -c 1-200 | sed 's/^/           /'
}
json() { local to=$1; shift; "$xft" "$@" --json >"$to.tmp" && mv "$to.tmp" "$to"; }
python() { "$venv/bin/python" "$root/tests/real_model.py" "$@"; }

make_venv() {
    "$venv/bin/python" -c 'import torch, transformers, safetensors' 2>/dev/null && return
    need_packages python3 python3-venv && python3 -m venv "$venv" &&
        "$venv/bin/pip" install -q torch==2.2.2 'numpy<2' transformers==4.37.0 safetensors
}
# Ids and logits of the same text by our evaluator.
logits() { "$build/tests/xft_logits" "$device" "$1" "$1.f32" $ids; }
answer() { grep -q 'The capital of France is Paris.' <<<"$("$xft" generate --model "$base" --device "$device" \
    --template chatml --chat 'What is the capital of France?' --max-new-tokens 12 | tee answer)" || { cat answer; return 1; }; cat answer; }
greedy() { # ours, and transformers'
    json ours.json generate --model merged --device "$device" --max-new-tokens 24 "$text" &&
        python greedy merged $ids -- $(python3 -c 'import json; print(*json.load(open("ours.json"))["answers"][0]["ids"])')
}
common=(--device "$device" --batch "$batch" --micro-batch 2 --length "$length" --template chatml)
text='def fibonacci(n):
    """The n-th Fibonacci number."""
'

check "virtual environment with torch and transformers" make_venv
[ -e base ] || ln -s "$base" base
head -n -16 "$data" >train.jsonl
tail -n 16 "$data" >eval.jsonl
ids=$(python ids base "$text") || { echo "FAILED   no ids from transformers"; exit 1; }

check "the dense model answers" answer
check "logits of the dense model" logits base
check "transformers: the same logits of the dense model" python hf base base.f32 $ids
check "xft upcycle (E=4, K=2)" "$xft" upcycle --no-resume --model base --output moe --experts 4 --top-k 2 --device "$device"
check "logits of the MoE" logits moe
check "the freshly upcycled model gives the same logits (1e-3)" python logits base.f32 moe.f32 1e-3
check "loss before" json before.json eval --model moe --eval-data eval.jsonl "${common[@]:0:2}" --length "$length" \
    --micro-batch 2 --template chatml
check "xft train: $steps steps" json tuned.json train --model moe --output tuned --data train.jsonl \
    --eval-data eval.jsonl "${common[@]}" --max-steps "$steps" --warmup 3 --save-every 10 --eval-every 0
check "the loss falls in training" python falls tuned/log.jsonl
python3 -c 'import json; json.dump([json.load(open("before.json")), json.load(open("tuned.json"))], open("both.json", "w"))'
check "and on what was held out" python holds both.json 'j[1]["run"]["eval_loss"] < j[0]["loss"]'
check "memory is within the plan" python holds tuned.json '0 < j["run"]["memory"] <= j["run"]["planned"]'
check "xft merge: $merge_steps steps" json merge.json merge --model tuned --output merged --data train.jsonl \
    --eval-data eval.jsonl "${common[@]}" --max-steps "$merge_steps" --save-every 10 --eval-every 0
check "memory is within the plan" python holds merge.json '0 < j["run"]["memory"] <= j["run"]["planned"]'
check "the default rate moves some alpha by 0.05" python holds merged/merge.json 'j["most_moved"] >= 0.05'
check "losses of learned, uniform and lambda = 1" python holds merged/merge.json \
    'all(0 < j["loss"][k] < 20 for k in ("mixed", "uniform", "shared"))'
check "names, shapes, formats and config.json of the base" python layout base merged
check "logits of the merged model" logits merged
check "transformers: the same logits (1e-3)" python hf merged merged.f32 $ids
check "transformers: the same greedy continuation" greedy
check "xft generate with the merged model" "$xft" generate --model merged --device "$device" --template chatml --chat \
    'Write a Python function that reverses a string.' --max-new-tokens 48
if [ -z "$problems" ]; then
    python3 "$root/host/demo/tasks.py" tasks >log && problems=tasks/test-problems.jsonl
fi
check "xft eval --humaneval: 5 samples, scored" json eval.json eval --model merged --device "$device" \
    --humaneval "$problems" --max-problems 5 --output scores --max-new-tokens 128 --template chatml
check "5 lines in samples.jsonl" test "$(wc -l <scores/samples.jsonl)" = 5
check "a score of 5 problems" python holds eval.json 'j["score"]["problems"] == 5 and j["score"]["pass@1"] >= 0'
echo "$failures failed"
[ $failures = 0 ]
