#!/usr/bin/env python3
"""The demo's generators and base model: tests/demo.py CHECK BUILD_FOLDER, one CHECK after the other by tests/run.sh."""
import filecmp
import json
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEMO = os.path.join(ROOT, "host", "demo")
sys.path.insert(0, DEMO)
import structure  # noqa: E402


def script(name, *arguments):
    return subprocess.run([sys.executable, os.path.join(DEMO, name), *arguments], capture_output=True, text=True)


def made(name, *arguments):
    done = script(name, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def generate(folder, seed):
    made("tasks.py", folder, "--seed", seed)
    made("corpus.py", os.path.join(folder, "corpus.jsonl"), "--seed", seed, "--texts", "3000")


def same_seed(folder, _):
    """The same seed gives the same bytes, another one does not."""
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        generate(os.path.join(folder, name), seed)
    files = sorted(os.listdir(os.path.join(folder, "a")))
    assert len(files) == 5, files
    a, b, c = (os.path.join(folder, name) for name in "abc")
    assert filecmp.cmpfiles(a, b, files, shallow=False)[0] == files
    assert filecmp.cmpfiles(a, c, files, shallow=False)[0] == []


def tests_pass(folder, _):
    """Every canonical solution passes its tests; an empty function passes none; what is trained on is Python."""
    generate(folder, "1")
    for name in ("valid-problems.jsonl", "test-problems.jsonl"):
        for p in lines(os.path.join(folder, name)):
            scope = {}
            exec(p["prompt"] + p["canonical_solution"] + p["test"], scope)
            scope["check"](scope[p["entry_point"]])
            try:
                scope["check"](lambda _: None)
            except AssertionError:
                continue
            raise AssertionError(f"{p['task_id']} is passed by anything")
    for row in lines(os.path.join(folder, "train.jsonl")) + lines(os.path.join(folder, "valid.jsonl")):
        code = re.fullmatch(r"```python\n(.*)```", row["response"], re.S).group(1)
        compile(code, row["instruction"], "exec")


def held_out(folder, _):
    """Nothing held out is trained on, also by the base; a renamed copy of it would be noticed."""
    generate(folder, "1")
    path = {name: os.path.join(folder, name + ".jsonl") for name in
            ("train", "corpus", "valid-problems", "test-problems", "planted")}
    both = path["valid-problems"], path["test-problems"]
    made("structure.py", path["train"], path["corpus"], "--", *both)
    made("structure.py", path["train"], "--", path["valid-problems"])
    made("structure.py", path["valid-problems"], "--", path["test-problems"])
    problem = lines(path["test-problems"])[7]
    code = problem["prompt"] + problem["canonical_solution"]
    name, parameter = re.match(r"def (\w+)\((\w+)\)", code).groups()
    renamed = re.sub(rf"\b{parameter}\b", "renamed", re.sub(rf"\b{name}\b", "other", re.sub(r"\b\d+\b", "77", code)))
    with open(path["planted"], "w", encoding="utf-8") as file:
        file.write(json.dumps({"instruction": "copied", "response": f"```python\n{renamed}```"}) + "\n")
    found = script("structure.py", path["train"], path["planted"], "--", *both)
    assert found.returncode == 1 and "planted.jsonl:1" in found.stderr, found
    assert structure.structure("def f(a):\n    '''x'''\n    return sum(b for b in a if b > 3)") == \
        structure.structure("def g(n):\n    return sum(i for i in n if i > 40)")
    assert structure.structure("def f(a):\n    return sum(a)") != structure.structure("def f(a):\n    return max(a)")


def tokenizer(folder, _):
    """The tokenizer in the repository is the one that the recipe makes."""
    corpus = os.path.join(folder, "corpus.jsonl")
    made("corpus.py", corpus)
    with open(os.path.join(DEMO, "template.txt"), encoding="utf-8") as file:
        made("bpe.py", folder, corpus, "--size", "1024", "--words", file.read().rstrip("\n"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert filecmp.cmp(os.path.join(folder, name), os.path.join(DEMO, "base", name), shallow=False), name


def base(folder, build):
    """The base loads, takes at most 8 MB, and solves between 5% and 50% of the first held-out tasks."""
    size = sum(os.path.getsize(os.path.join(DEMO, "base", name)) for name in os.listdir(os.path.join(DEMO, "base")))
    assert size <= 8_000_000, size
    made("tasks.py", folder, "--train", "1", "--valid", "1")
    # The interpreter itself, not a wrapper that starts it: the sandbox allows one process.
    path = os.path.dirname(os.path.realpath(sys.executable)) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        [os.path.join(build, "xft"), "eval", "--model", os.path.join(DEMO, "base"), "--problems",
         os.path.join(folder, "test-problems.jsonl"), "--max-problems", "100", "--max-new-tokens", "80", "--micro-batch",
         "25", "--length", "256", "--output", os.path.join(folder, "eval"), "--json"],
        capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stderr
    score = json.loads(done.stdout)["score"]["pass@1"]
    print(f"base: {size} bytes, pass@1 {score}")
    assert 0.05 <= score <= 0.5, score


def whole(folder, build):
    """The README's first command, a few steps of it: the table has every model, and the page is there."""
    done = subprocess.run([os.path.join(DEMO, "run.sh"), "--output", folder, "--", "--max-steps", "2", "--max-problems", "4"],
                          capture_output=True, text=True, env={**os.environ, "XFT_BUILD": build, "XFT_NO_INSTALL": "1"})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = re.findall(r"^\| .* \| [0-9.]+ \| [0-9.]+ \|$", done.stdout, re.M)
    assert len(table) == 5, done.stdout
    print(re.search(r"[0-9]+ s of training per run", done.stdout).group())
    page = re.search(r"^report: (.*)$", done.stdout, re.M).group(1)
    assert os.path.getsize(page) > 10_000, page


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        globals()[sys.argv[1]](temporary, sys.argv[2])
