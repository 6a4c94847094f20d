#!/usr/bin/env bash
# tests/fuzz/run.sh [SECONDS] [TARGET…]
#
# Builds the libFuzzer targets with clang and sanitizers, and runs each for SECONDS (600) on inputs that begin with what
# tests/ holds; what was learned stays in build/fuzz/corpus from run to run. Prints executions and coverage of each, and
# exits 1 with the input in build/fuzz/findings when there is a finding. XFT_FUZZ_SEED=N repeats one sequence of inputs.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
build=${XFT_BUILD:-$PWD/build}/fuzz
seconds=${1:-600}
[ $# = 0 ] || shift
mkdir -p "$build/corpus" "$build/findings"
[ "${XFT_NO_INSTALL:-}" = 1 ] || { . tests/packages.sh && need_packages $BUILD_PACKAGES clang libclang-rt-14-dev; }
CC=clang cmake -S . -B "$build" -G Ninja -DXFT_FUZZ=ON -DXFT_TESTS=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo >"$build/cmake.log"
ninja -C "$build" xft_fuzz >"$build/ninja.log" || { grep -E 'error|FAILED' -A5 "$build/ninja.log" | head -20; exit 1; }

# ---- Inputs to begin with -------------------------------------------------------------------------------------------
seed() { # seed TARGET FILE…: copies of files
    local target=$1 file number=0
    mkdir -p "$build/seeds/$target"
    for file in "${@:2}"; do
        cp "$file" "$build/seeds/$target/$((number++))"
    done
}
lines() { # lines TARGET: one input per line of stdin, escapes read
    local line number=0
    mkdir -p "$build/seeds/$1"
    while read -r line; do
        printf '%b' "$line" >"$build/seeds/$1/line-$((number++))"
    done
}
words() { # words TARGET SOURCE…: the strings of a parser's sources as a dictionary
    grep -ohE '"[A-Za-z0-9_.|<>-]{2,40}"' "${@:2}" | sort -u >"$build/$1.dict"
}
rm -rf "$build/seeds"
mapfile -t small < <(find tests/oracle -name '*.safetensors' -size -24k | sort | awk 'NR % 4 == 0')
seed safetensors "${small[@]}"
mapfile -t configs < <(find tests/oracle -name config.json | sort)
seed config "${configs[@]}"
mapfile -t yaml < <(find host tests -name '*.yaml' | sort)
seed settings ${yaml[@]+"${yaml[@]}"}
mkdir -p "$build/seeds/tokenizer"
"$build/tests/fuzz/xft_fuzz_tokenizer" --seeds "$build/seeds/tokenizer"
lines index <<'END'
{"metadata": {"total_size": 16}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
{"weight_map": {"a": "1.safetensors"}}
END
lines settings <<'END'
data: [a.jsonl, b.jsonl]\nlr: 5e-5\ntune: {lr: 1e-4, epochs: 4}\nmerge:\n  lambda: 0.75\n  merge_kind: uniform\n
# comment\nmodel: "m o"\ncompat: official\nshard_size: 5GiB\npacking: yes\nsft:\n  schedule: cosine\n  data:\n    - x\n
END
lines jsonl <<'END'
\0{"instruction": "a", "input": "b", "output": "c"}\n{"prompt": "a", "completion": "b c"}\n
\1{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]}
\x26{"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]}
\x43{"instruction": "a\\u00e9", "response": "<|EOT|>"}\r\n\n{"instruction": "a b c d e f g h i j k l m", "response": "n"}\r\n
\x13{"prompt": "", "completion": " "}\n{"prompt": "", "completion": "a"}
END
mapfile -t problems < <(find tests/problems -name '*.jsonl' | sort)
seed problems ${problems[@]+"${problems[@]}"}
lines problems <<'END'
{"task_id": "t/0", "instruction": "a", "entry_point": "f", "test": "assert f()", "response": "x"}\n
{"task_id": "H/0", "prompt": "def f():\\n", "entry_point": "f", "test": "def check(c): pass", "canonical_solution": " return 1"}\n
{"task_id": "Mbpp/0", "prompt": "\\"\\"\\"\\na\\nassert f() == 1\\n\\"\\"\\"", "entry_point": "f", "base_input": [[1]], "plus_input": [], "canonical_solution": "b", "atol": 0.1}
END
seed problems tests/problems/own.jsonl
lines report <<'END'
{"event":"start","time":"2026-11-22T18:00:00Z","stage":"tune","steps":2,"settings":{"lr":1}}\n{"event":"step","step":1,"loss":2.5,"lr":0.1,"memory":5}\n
{"event":"eval","step":2,"loss":1.5,"labels":3}\n{"event":"router","step":2,"load":[[0.5,0.5]],"entropy":[1]}\n{"event":"mixing","step":2,"alpha":[[0.5,0.5]]}\n{"event":"end","st
END
words safetensors host/safetensors.c
words config models/config.c
words settings host/include/xft/settings.def
words jsonl host/dataset.c
words problems host/problems.c
words problems host/problems.c
words report host/report.c
words index host/shards.c
words tokenizer host/tokenizer/load.c

# ---- Runs -----------------------------------------------------------------------------------------------------------
status=0
targets=${*:-$(cd "$build/tests/fuzz" && ls -d xft_fuzz_* | grep -v '\.' | sed s/xft_fuzz_//)}
for target in $targets; do
    mkdir -p "$build/corpus/$target"
    log=$build/$target.log
    if "$build/tests/fuzz/xft_fuzz_$target" -max_total_time="$seconds" -seed="${XFT_FUZZ_SEED:-0}" -timeout=60 -rss_limit_mb=3000 -max_len=32768 \
        -dict="$build/$target.dict" -artifact_prefix="$build/findings/$target-" -print_final_stats=1 \
        "$build/corpus/$target" "$build/seeds/$target" >"$log" 2>&1; then
        result="no finding"
    else
        result="FINDING: $(grep -E 'SUMMARY|Test unit written' "$log" | tr '\n' ' ')"
        status=1
    fi
    printf '%-12s %10s executions, coverage %s: %s\n' "$target" \
        "$(awk '/stat::number_of_executed_units/ { print $2 }' "$log")" \
        "$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -c 6-)" "$result"
done
exit $status
