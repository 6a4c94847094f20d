#!/usr/bin/env bash
# The command as a person uses it: help, mistakes, JSON, man page, completion, every subcommand on tiny models, a stop by
# Ctrl-C and going on, and the installed tree.
# Usage: tests/command.sh [BUILD_DIR]     prints "N passed, N failed"
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
work=$(mktemp -d)
[ -n "${XFT_KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
xft=$build/xft
passed=0 failed=0
cd "$work" || exit 1
export XFT_TEST_DEVICE=opencl

check() { # check NAME COMMAND…
    local name=$1
    shift
    if "$@" >"$work/log" 2>&1; then passed=$((passed + 1)); echo "ok       command: $name"
    else failed=$((failed + 1)); echo "FAILED   command: $name"; tail -n 6 "$work/log"; fi
}
# ends CODE PATTERN ARGUMENT…: xft ends with the code, and what it says holds the pattern.
ends() {
    local code=$1 pattern=$2 got
    shift 2
    "$xft" "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    [ "$got" = "$code" ] || { echo "exit code $got instead of $code"; cat "$work/out"; return 1; }
    grep -qE -- "$pattern" "$work/out" || { echo "no \"$pattern\" in:"; head -20 "$work/out"; return 1; }
}
json() { "$xft" "$@" 2>"$work/err" </dev/null >"$work/json" && python3 -m json.tool "$work/json" /dev/null || { tail -3 "$work/err"; return 1; }; }
# A Python expression on the last JSON, called j.
holds() { python3 -c "import json,sys; j=json.load(open('$work/json')); sys.exit(not ($1))" || { cat "$work/json"; return 1; }; }

# ---- Help, of the same tables as the parser: every setting of a stage is named -----------------------------------------
settings_of() { # settings_of STAGE-PATTERN: keys of the rows whose column of stages matches
    sed -nE 's/^SETTING\([a-z0-9_]+, "([a-z0-9_]+)", [A-Z]+, "[^"]*", (ANY|RANGE\([^)]*\)|CHOICES\([^)]*\)), ([A-Z| ]+), (EFFECT|PROCESS), .*/\1 \3/p' \
        "$root/host/include/xft/settings.def" | grep -E " ($1)( |$)" | cut -d ' ' -f 1 | tr _ -
}
help_names_all() {
    local key missing=
    "$xft" "$1" --help >help 2>&1 || return 1
    "$xft" help "$1" | cmp - help || return 1
    for key in $(settings_of "$2"); do grep -qE -- "--(\[no-\])?$key( |$)" help || missing+=" $key"; done
    [ -z "$missing" ] || { echo "not in the help: $missing"; return 1; }
    grep -q '^Example' help && [ "$(awk '{ if (length($0) > 110) n++ } END { print n + 0 }' help)" = 0 ]
}
every='.*ALL.*'
while read -r name stages; do check "help of $name" help_names_all "$name" "$stages"; done <<END
devices none
upcycle $every|.*UPCYCLE.*|.*MODELS.*
train $every|.*TRAINING.*|.*MODELS.*
merge $every|.*MERGE.*|.*TRAINING.*|.*MODELS.*
run .*
generate $every|.*GENERATE.*
eval $every|.*EVAL.*
init none
inspect none
plan $every|.*TRAINING.*|.*MODELS.*|.*UPCYCLE.*
bench none
help none
END
check "xft alone is wrong usage" ends 2 'xft COMMAND'
check "--help" ends 0 'Exit status: 0 done' --help
check "--version" ends 0 '^xft [0-9]+\.[0-9]+\.[0-9]+$' --version

# ---- Mistakes ----------------------------------------------------------------------------------------------------------
check "unknown command" ends 2 'did you mean train\?' trian
check "unknown help" ends 2 'no command "trai"' help trai
check "unknown option" ends 2 'unknown option --lamda; did you mean --lambda\?' merge --lamda 0.5
check "beginning of an option" ends 2 'did you mean --epochs\?' train --epoch 3
check "option of another stage" ends 2 '--experts has no meaning here' train --experts 4
check "value missing" ends 2 '--lr needs a value' train --lr
check "value too much" ends 2 '--json takes no value' train --json=1
check "value of another type" ends 2 'lr: "fast" is no number' train --lr fast
check "value out of range" ends 2 'expected a number from 2 to 64' upcycle --experts 65
check "unknown word" ends 2 'none of magicoder\|chatml\|llama3\|deepseek-coder' generate --template alpaca x
check "setting missing" ends 2 'needs model: give --model FOLDER' train
check "operand missing" ends 2 'CONFIG is missing' run
check "operand too much" ends 2 'unexpected argument "b"' inspect a b
check "stage missing" ends 2 'did you mean' run --tun.lr 3 x.yaml
printf 'model: base\nsft:\n  lr: 1e-4\n  epocs: 3\n' >bad.yaml
check "YAML: line and suggestion" ends 1 'bad.yaml:4:3: unknown setting "epocs"; did you mean "epochs"' run bad.yaml
printf 'model: base\nlr: [1\n' >bad.yaml
check "YAML: syntax" ends 1 'bad.yaml:[23]:[0-9]+: not YAML' train --config bad.yaml
check "file missing" ends 1 'nowhere.yaml: No such file' run nowhere.yaml
check "model missing" ends 1 'nowhere/' generate --model nowhere x
check "standard output is full" bash -c "'$xft' help >/dev/full; [ \$? = 1 ]"

# ---- Devices, bench ----------------------------------------------------------------------------------------------------
check "devices" ends 0 'CPU' devices
check "devices --json" json devices --json
check "devices: id and class" holds 'any(d["usable"] and d["id"].startswith("opencl:") and d["class"] == "CPU" for d in j)'
echo '[{"op":"gemm","label":"a","device":"d","ms":2.0,"spread":0.02},{"op":"gemm","label":"b","device":"d","ms":1,"spread":0}]' >before.json
echo '[{"op":"gemm","label":"a","device":"d","ms":1.0,"spread":0.01},{"op":"add","label":"b","device":"d","ms":1,"spread":0}]' >now.json
check "bench --compare" ends 0 '^x2.00 +± 0.03 faster +gemm a' bench --compare before.json now.json
check "bench --compare: rows of one file" ends 0 '1 rows in both, geometric mean x2.000; 1 only before, 1 only now' bench --compare before.json now.json
check "bench --compare: nothing in common" ends 1 'no row of one file is in the other' bench --compare before.json <(echo '[]')
check "bench: unknown" ends 2 'expected ops, step or tune' bench opps
check "bench tune: unknown" ends 2 'takes --device NAME and nothing else, not "--devcie"' bench tune --devcie x

# ---- Models ------------------------------------------------------------------------------------------------------------
check "tiny models" "$build/tests/xft_make_small" small opencl
check "no such device" ends 1 'no-such-device' generate --model small/dense --device no-such-device x
common="--device opencl --batch 8 --micro-batch 4 --length 32 --lr 1e-3"
check "init" ends 0 'random: [0-9]+ tensors' init small/dense --output random --seed 3
check "init does not overwrite a model" ends 1 'random holds a model' init small/dense --output random
check "init: a model" ends 0 'model.embed_tokens.weight' inspect random --tensors
check "init: no output" ends 2 'needs --output' init small/dense
check "init: no number" ends 2 'must be a whole number' init small/dense --output random --seed x
check "inspect" ends 0 'model.embed_tokens.weight' inspect small/moe --tensors
check "inspect --json" json inspect small/moe --json
check "inspect: layers" holds 'len(j["layers"]) == 2 and j["totals"]["nan"] == 0'
check "generate" ends 0 '.' generate --model small/dense --device opencl --max-new-tokens 4 abc
check "generate --json" json generate --model small/moe --device opencl --max-new-tokens 5 --json abc "$(printf 'd%.0s' {1..9})"
check "generate: answers" holds 'len(j["answers"]) == 2 and all(1 <= len(a["ids"]) <= 5 for a in j["answers"])'
check "generate from standard input" bash -c "echo abc | '$xft' generate --model small/dense --device opencl --max-new-tokens 3"
check "generate: a prompt that is too long" ends 1 'prompt 2 has 70 tokens; expected fewer than 64' \
    generate --model small/dense --device opencl abc "$(printf 'a%.0s' {1..70})"
check "generate: an empty prompt" ends 1 'prompt 1 is empty' generate --model small/dense --device opencl ""
echo abc >prompt.txt
same_from_file() {
    [ "$("$xft" generate --model small/dense --device opencl --max-new-tokens 4 --file prompt.txt)" = \
        "$("$xft" generate --model small/dense --device opencl --max-new-tokens 4 abc)" ]
}
check "generate from a file gives the same" same_from_file
check "plan" ends 0 '^tune +.*fits' plan --model small/dense $common --experts 4 --top-k 2 --fit 1GiB
check "plan --json" json plan --model small/dense $common --experts 4 --top-k 2 --fit 1GiB --json
check "plan: sums" holds 'all(s["total"] >= s["weights"] > 0 for s in j["stages"] if s["stage"] != "upcycle") and len(j["fit"]) > 5'
check "upcycle" ends 0 'up' upcycle --model small/dense --output up --experts 4 --top-k 2 --device opencl
check "train: a MoE is tuned" ends 0 'tune.*steps' train --model up --output tuned --data small/data.jsonl $common --epochs 2
check "train: a warning on a CPU device" grep -q 'warning: .*CPU' out
check "train: a report" grep -q '<html' tuned/report.html
check "train --json: it is done already" json train --model up --output tuned --data small/data.jsonl $common --epochs 2 --json
check "train: says so" holds 'j["was_done"] and j["stage"] == "tune"'
check "upcycle does not overwrite a run" ends 1 'tuned holds a training run' \
    upcycle --model small/dense --output tuned --device opencl
check "init does not overwrite a run" ends 1 'tuned holds a training run' init small/dense --output tuned
check "upcycle does not overwrite a model" ends 1 'up holds a model.*resume: no' \
    upcycle --model small/dense --output up --experts 4 --top-k 3 --device opencl
cp -r up up-before
check "upcycle begins anew when told to" ends 0 'up' \
    upcycle --model small/dense --output up --experts 4 --top-k 2 --device opencl --no-resume
check "upcycle: the same again" cmp up/model.safetensors up-before/model.safetensors
check "train: a dense model is sft" ends 0 'sft.*steps' train --model small/dense --output sft --data small/data.jsonl $common --max-steps 2
check "merge" json merge --model tuned --output merged --data small/data.jsonl --eval-data small/eval.jsonl $common --lr 0.1 --json
check "merge: losses" holds 'j["loss_mixed"] > 0 and j["loss_uniform"] > 0 and j["loss_shared"] > 0 and j["most_moved"] > 0'
check "merge --uniform" ends 0 'uni' merge --uniform --model tuned --output uni --device opencl
check "merge --uniform: losses" ends 0 'merge: loss [0-9.]+; shared expert alone [0-9.]+' \
    merge --uniform --model tuned --output uni-2 --data small/data.jsonl $common
check "eval --json" json eval --model merged --eval-data small/eval.jsonl --device opencl --length 32 --json
check "eval: loss" holds 'abs(j["perplexity"] / 2.718281828 ** j["loss"] - 1) < 1e-4 and j["labels"] > 0'
for row in humaneval:own/total mbpp:Mbpp/9001; do
    format=${row%:*}
    grep "\"${row#*:}\"" "$root/tests/problems/own.jsonl" >$format.jsonl
    check "eval --$format" json eval --model "$root/host/demo/base" --$format $format.jsonl --device opencl --max-new-tokens 4 \
        --samples 2 --output $format --json
    check "eval --$format: a score" holds 'j["score"]["samples"] == 2'
done

on_a_terminal() {
    script -qec "stty cols 120; $xft train --model small/dense --output tty --data small/data.jsonl $common --max-steps 5" /dev/null >tty.log
    tr '\r' '\n' <tty.log | grep -qE 'sft \[=+\] 5/5 eta 0:00 loss [0-9.]+ lr [0-9.e-]+ norm [0-9.]+ [0-9]+ tok/s [0-9.]+ .iB' || { cat tty.log; return 1; }
}
check "progress bar on a terminal" on_a_terminal

# ---- Stopping ----------------------------------------------------------------------------------------------------------
long="train --model small/dense --data small/data.jsonl $common --epochs 1000 --max-steps 400 --save-every 0 --seed 3"
stop_and_go_on() { # stop_and_go_on SIGNAL
    rm -rf stopped
    "$xft" $long --output stopped >stop.log 2>&1 &
    local pid=$! code
    for _ in $(seq 200); do grep -q ' 2[0-9]*/400' stop.log && break; sleep 0.05; done
    kill -"$1" $pid
    wait $pid
    code=$?
    tail -3 stop.log
    [ $code = 130 ] && grep -q 'goes on' stop.log && [ -e stopped/log.jsonl ] && [ ! -e stopped/model.safetensors ] &&
        "$xft" $long --output stopped >go_on.log 2>&1 && grep -qE 'from step [1-9]' go_on.log &&
        cmp stopped/model.safetensors whole/model.safetensors
}
check "a run that nothing stops" ends 0 'sft.*steps' $long --output whole
check "Ctrl-C, going on, the same bits" stop_and_go_on INT
check "SIGTERM, going on, the same bits" stop_and_go_on TERM

# ---- Pipeline ----------------------------------------------------------------------------------------------------------
cat >pipeline.yaml <<END
model: small/dense
output: pipe
device: opencl
data: [small/data.jsonl]
eval_data: [small/eval.jsonl]
batch: 8
micro_batch: 4
length: 32
lr: 1e-3
max_steps: 4
upcycle: {experts: 4, top_k: 2}
END
check "run" ends 0 'pipe/report.html' run pipeline.yaml
check "run: its parts" ls pipe/sft/model.safetensors pipe/upcycled pipe/moe pipe/merged/model.safetensors pipe/uniform pipe/report.html
check "run again --json" json run pipeline.yaml --json
check "run again: all there" holds 'all(p["skipped"] for p in j["parts"] if p["name"] != "report") and len(j["parts"]) > 5'
check "run with a flag for one stage" json run pipeline.yaml --json --merge.lr 0.2
check "run: only what depends on it" holds '{p["name"] for p in j["parts"] if not p["skipped"]} >= {"merged"} and all(p["skipped"] for p in j["parts"] if p["name"] in ("sft", "upcycled", "moe"))'

# ---- Documents, installed ----------------------------------------------------------------------------------------------
prefix=$work/prefix
check "install" cmake --install "$build" --prefix "$prefix"
check "installed: runs" "$prefix/bin/xft" --version
page=$prefix/share/man/man1/xft.1
check "man page: mandoc finds no error" mandoc -T lint -W error "$page"
no_warning() {
    LC_ALL=C.UTF-8 MANWIDTH=100 man --warnings -l "$page" >man.txt 2>man.err && grep -q -- '--merge-kind KIND' man.txt && [ ! -s man.err ] ||
        { cat man.err; return 1; }
}
check "man page: man is content" no_warning
check "man page: every command" bash -c "for c in devices upcycle train merge run init generate eval inspect plan bench; do grep -q \"^.SS xft \$c\" '$page' || exit 1; done"
completes() { # completes EXPECTED WORD…: bash's candidates for the last word
    local expected=$1
    shift
    bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _xft; echo "${COMPREPLY[*]}"' - \
        "$prefix/share/bash-completion/completions/xft" "$@" | tee /dev/stderr | grep -qxF -- "$expected"
}
check "bash completes commands" completes "train" xft tr
check "bash completes flags" completes "--merge-kind" xft merge --merge
check "bash completes words" completes "cosine constant" xft train --schedule co
for shell in zsh fish; do
    file=$(ls "$prefix"/share/zsh/site-functions/_xft "$prefix"/share/fish/vendor_completions.d/xft.fish | grep $shell)
    check "$shell reads its completion" $shell -n "$file"
done
if [ -x "$build/bench/xft_bench_ops" ]; then
    installed_bench() { "$prefix/bin/xft" bench ops --op no-such-op; [ $? = 2 ]; }
    check "installed: bench is found and run" installed_bench
fi
check "installed: recipe" ls "$prefix/share/xftgpu/recipes/deepseek-coder-1.3b.yaml"

echo "command: $passed passed, $failed failed"
[ $failed -eq 0 ]
