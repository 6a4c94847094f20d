#!/usr/bin/env python3
"""The corpus of the demo's base model: Python files and pages about Python, with the functions of tasks.py.

    corpus.py FILE [--seed 1] [--texts 14000]

writes FILE, one {"prompt": "", "completion": text} per line. Only compositions of the training part are in it: what the
demo holds out, its base has not seen either. The same seed gives the same bytes.
"""
import argparse
import random

import tasks

VARIABLES = {"x": "xnvea", "i": "ikxn", "d": "dxc", "c": "cxa", "w": "wsxt"}
RESULTS = ("result", "found", "out", "kept", "chosen")
HEADINGS = (("Question: ", "\n\nAnswer:\n"), ("# Exercise\n", "\n\n# Solution\n"), ("Task: ", "\n\nCode:\n"),
            ("@@ Problem\n", "\n\n@@ Program\n"), ("Q: ", "\nA:\n"), ("## How do I do it?\n", "\n\n## Like this\n"))


def a_task(r):
    while True:
        task = tasks.Task(r)
        if task.part() == "train":
            return task


def code(task, r):
    """With a loop or without; names of variables vary."""
    variable = r.choice(VARIABLES[task.domain.element])
    if variable == task.param:
        variable = task.domain.element
    if r.random() < 0.4:
        return task.loop(variable, r.choice(RESULTS))
    return task.head() + f"    return {task.expression(variable)}\n"


def sentence(text):
    return text[0].upper() + text[1:] + "."


def said(task, r):
    quote = r.choice(("`", ""))
    return r.choice((sentence("return " + task.wanted(quote)), "T" + task.steps(quote) + ".", sentence(task.wanted(quote))))


def documented(task, r):
    """A function with a comment above it or a docstring."""
    text = code(task, r)
    if r.random() < 0.4:
        return f"# {said(task, r)}\n{text}"
    head, body = text.split("\n", 1)
    return f'{head}\n    """{said(task, r)}"""\n{body}'


def tried(task, r):
    """With a call and what it gives."""
    text, name = code(task, r), task.name
    value = task.domain.values(r)
    return f"{text}\n\nassert {name}({value!r}) == {tasks.function(text, name)(value)!r}\n"


def page(r):
    """A question and its answer."""
    question, answer = r.choice(HEADINGS)
    task = a_task(r)
    return f"{question}Write `{task.name}({task.param})`. {said(task, r)}{answer}```python\n{code(task, r)}```\n"


def text(r):
    kind = r.random()
    if kind < 0.1:
        return page(r)
    if kind < 0.15:
        return tried(a_task(r), r)
    return "\n\n".join(documented(a_task(r), r) for _ in range(r.choice((1, 1, 2))))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file")
    p.add_argument("--seed", default="1")
    p.add_argument("--texts", type=int, default=14000)
    a = p.parse_args()
    r = random.Random(f"corpus {a.seed}")
    tasks.write(a.file, ({"prompt": "", "completion": text(r)} for _ in range(a.texts)))


if __name__ == "__main__":
    main()
