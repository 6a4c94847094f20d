"""What tests/real_model.sh asks of transformers, and of the files.

real_model.py ids FOLDER TEXT                 token ids of a text
real_model.py logits A.f32 B.f32 MOST         largest difference of two files of logits
real_model.py hf FOLDER LOGITS.f32 ID…        transformers' logits for the ids against a file: at most 1e-3
real_model.py greedy FOLDER ID… -- NEW…       transformers' greedy continuation of the ids is NEW
real_model.py layout BASE OTHER               same tensor names, shapes, formats, config.json
real_model.py holds JSON EXPRESSION           a Python expression on the content j of a JSON file
real_model.py falls LOG                       losses of a log.jsonl: the last ten are below the first ten
"""
import json
import os
import sys


def load(folder):
    import torch
    import transformers
    torch.manual_seed(0)
    return torch, transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()


def ids(folder, text):
    import transformers
    print(*transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"])


def logits(a, b, most):
    import numpy
    a, b = numpy.fromfile(a, "<f4"), numpy.fromfile(b, "<f4")
    worst = float(abs(a - b).max()) if len(a) == len(b) else float("inf")
    print(f"largest difference {worst:.2e} of values up to {abs(a).max():.1f}")
    return worst <= float(most)


def hf(folder, path, *numbers):
    import numpy
    torch, model = load(folder)
    with torch.no_grad():
        theirs = model(torch.tensor([[int(n) for n in numbers]])).logits[0].numpy()
    ours = numpy.fromfile(path, "<f4").reshape(theirs.shape)
    worst = float(abs(ours - theirs).max())
    print(f"largest difference {worst:.2e} of values up to {abs(theirs).max():.1f}")
    return worst <= 1e-3


def greedy(folder, *numbers):
    middle = numbers.index("--")
    prompt, expected = [[int(n) for n in part] for part in (numbers[:middle], numbers[middle + 1:])]
    torch, model = load(folder)
    with torch.no_grad():
        out = model.generate(torch.tensor([prompt]), max_new_tokens=len(expected), do_sample=False)
    theirs = out[0, len(prompt):].tolist()
    print("transformers", theirs, "ours", expected)
    return theirs == expected


def tensors(folder):
    from safetensors import safe_open
    found = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        with safe_open(os.path.join(folder, name), "np") as f:
            for key in f.keys():
                part = f.get_slice(key)
                found[key] = (tuple(part.get_shape()), part.get_dtype())
    return found


def layout(base, other):
    a, b = tensors(base), tensors(other)
    for key in sorted(set(a) | set(b)):
        if a.get(key) != b.get(key):
            print(key, a.get(key), b.get(key))
    configs = [open(os.path.join(folder, "config.json"), "rb").read() for folder in (base, other)]
    print(len(a), "tensors; config.json", "equal" if configs[0] == configs[1] else "differs")
    return a == b and configs[0] == configs[1]


def holds(path, expression):
    j = json.load(open(path))
    print(json.dumps(j)[:600])
    return bool(eval(expression, {"j": j}))


def falls(path):
    losses = [event["loss"] for event in map(json.loads, open(path)) if event["event"] == "step"]
    n = max(1, min(10, len(losses) // 2))
    first, last = sum(losses[:n]) / n, sum(losses[-n:]) / n
    print(f"{len(losses)} steps: mean of the first {n} {first:.4f}, of the last {n} {last:.4f}")
    return last < first


if __name__ == "__main__":
    command = {f.__name__: f for f in (ids, logits, hf, greedy, layout, holds, falls)}
    sys.exit(command[sys.argv[1]](*sys.argv[2:]) is False)
