#!/usr/bin/env python3
"""Short Python tasks: a filter, maps and a reduction over a list, a text or a number, composed at random.

    tasks.py FOLDER [--seed 1] [--train 1100] [--valid 100] [--test 250]

writes FOLDER/train.jsonl and FOLDER/valid.jsonl (instruction, response), FOLDER/valid-problems.jsonl and
FOLDER/test-problems.jsonl (the same with unit tests instead of a response). Settings are chosen on valid, test is scored.
Every composition belongs to one of the three parts, whatever its names and constants are: the part is drawn by the
structure of its solution (structure.py). The same seed gives the same bytes.
"""
import argparse
import collections
import hashlib
import json
import os
import random

from structure import structure

# ---- Pieces: what is said, and what is written. {x}: the element, {p}: the parameter, {k} {j}: numbers, {q}: a letter.

Filter = collections.namedtuple("Filter", "noun code")  # noun: what is left
Map = collections.namedtuple("Map", "doing do code kind")  # "after doing"; "do"; kind of the result, "" keeps it
Reduction = collections.namedtuple("Reduction", "of their code kinds maps")  # "of {s}"; "their" after a full stop
Domain = collections.namedtuple("Domain", "weight kind noun source element x params filters maps values")


def over_numbers(noun, k="{k}"):
    adjectives = [Filter("even " + noun, "{x} % 2 == 0"), Filter("odd " + noun, "{x} % 2 != 0")]
    tails = [Filter(noun + tail.replace("{k}", k), code.replace("{k}", k)) for tail, code in (
        (" greater than {k}", "{x} > {k}"), (" above {k}", "{x} > {k}"), (" less than {k}", "{x} < {k}"),
        (" below {k}", "{x} < {k}"), (" of at least {k}", "{x} >= {k}"), (" of at most {k}", "{x} <= {k}"),
        (" other than {k}", "{x} != {k}"), (" divisible by {j}", "{x} % {j} == 0"),
        (" not divisible by {j}", "{x} % {j} != 0"))]
    both = [Filter(a.noun + t.noun[len(noun):], a.code + " and " + t.code) for a in adjectives for t in tails[:7]]
    return adjectives, tails, both


NUMBER_MAPS = [
    Map("squaring {e}", "square {e}", "{x} * {x}", "number"),
    Map("cubing {e}", "cube {e}", "{x} ** 3", "number"),
    Map("doubling {e}", "double {e}", "{x} * 2", "number"),
    Map("negating {e}", "negate {e}", "-{x}", "number"),
    Map("adding {j} to {e}", "add {j} to {e}", "{x} + {j}", "number"),
    Map("subtracting {j} from {e}", "subtract {j} from {e}", "{x} - {j}", "number"),
    Map("subtracting {e} from {k}", "subtract {e} from {k}", "{k} - {x}", "number"),
    Map("multiplying {e} by {j}", "multiply {e} by {j}", "{x} * {j}", "number"),
    Map("dividing {e} by {j} and rounding down", "divide {e} by {j} and round down", "{x} // {j}", "number"),
    Map("replacing {e} by its remainder modulo {j}", "replace {e} by its remainder modulo {j}", "{x} % {j}", "number"),
    Map("raising {e} to at least {k}", "raise {e} to at least {k}", "max({x}, {k})", "number"),
    Map("limiting {e} to at most {k}", "limit {e} to at most {k}", "min({x}, {k})", "number"),
]
TEXT_MAPS = [
    Map("turning {e} into upper case", "turn {e} into upper case", "{x}.upper()", ""),
    Map("turning {e} into lower case", "turn {e} into lower case", "{x}.lower()", ""),
    Map("swapping the case of {e}", "swap the case of {e}", "{x}.swapcase()", ""),
    Map("repeating {e} {j} times", "repeat {e} {j} times", "{x} * {j}", ""),
    Map("appending '{q}' to {e}", "append '{q}' to {e}", "{x} + '{q}'", ""),
    Map("putting '{q}' before {e}", "put '{q}' before {e}", "'{q}' + {x}", ""),
]
WORD_MAPS = TEXT_MAPS + [
    Map("reversing {e}", "reverse {e}", "{x}[::-1]", ""),
    Map("capitalizing {e}", "capitalize {e}", "{x}.capitalize()", ""),
    Map("replacing {e} by its length", "replace {e} by its length", "len({x})", "number"),
    Map("cutting {e} to its first {j} letters", "cut {e} to its first {j} letters", "{x}[:{j}]", ""),
    Map("dropping the first letter of {e}", "drop the first letter of {e}", "{x}[1:]", ""),
    Map("replacing {e} by its last letter", "replace {e} by its last letter", "{x}[-1]", ""),
]

ANY = ("number", "character", "word")
REDUCTIONS = [
    Reduction("the list of {s}", "them as a list", "[{g}]", ANY, True),
    Reduction("the number of {s}", "how many there are", "len([{g}])", ANY, False),
    Reduction("the number of different values among {s}", "how many different values there are", "len(set({g}))", ANY,
              True),
    Reduction("the list of {s} in reverse order", "them as a list in reverse order", "[{g}][::-1]", ANY, True),
    Reduction("the sorted list of {s}", "them as a sorted list", "sorted({g})", ANY, True),
    Reduction("the list of {s} in descending order", "them as a list in descending order", "sorted([{g}], reverse=True)",
              ANY, True),
    Reduction("the list of the first {j} of {s}", "the first {j} of them as a list", "[{g}][:{j}]", ANY, True),
    Reduction("the list of the last {j} of {s}", "the last {j} of them as a list", "[{g}][-{j}:]", ANY, True),
    Reduction("the sum of {s}", "their sum", "sum({g})", ("number",), True),
    Reduction("the largest of {s}, or 0 if there are none", "the largest of them, or 0 if there are none",
              "max([{g}], default=0)", ("number",), True),
    Reduction("the smallest of {s}, or 0 if there are none", "the smallest of them, or 0 if there are none",
              "min([{g}], default=0)", ("number",), True),
    Reduction("a string of {s}", "them as a string", "''.join({g})", ("character",), True),
    Reduction("a string of {s} in reverse order", "them as a string in reverse order", "''.join({g})[::-1]",
              ("character",), True),
    Reduction("a string of {s} joined by '{sep}'", "them joined by '{sep}'", "'{sep}'.join({g})", ("character", "word"),
              True),
    Reduction("the longest of {s}, or '' if there are none", "the longest of them, or '' if there are none",
              "max([{g}], key=len, default='')", ("word",), True),
    Reduction("the shortest of {s}, or '' if there are none", "the shortest of them, or '' if there are none",
              "min([{g}], key=len, default='')", ("word",), True),
]

CHARACTER_FILTERS = [Filter(noun, code) for noun, code in (
    ("vowels", "{x} in 'aeiou'"), ("characters that are no vowels", "{x} not in 'aeiou'"),
    ("digits", "{x}.isdigit()"), ("letters", "{x}.isalpha()"), ("characters that are no letters", "not {x}.isalpha()"),
    ("uppercase letters", "{x}.isupper()"), ("lowercase letters", "{x}.islower()"),
    ("characters other than '{q}'", "{x} != '{q}'"), ("characters that come after '{q}'", "{x} > '{q}'"),
    ("characters that occur more than once", "{p}.count({x}) > 1"),
    ("characters that occur exactly once", "{p}.count({x}) == 1"))]


def over_words(noun):
    return [Filter(noun + tail, code) for tail, code in (
        (" longer than {j} letters", "len({x}) > {j}"), (" shorter than {j} letters", "len({x}) < {j}"),
        (" of exactly {j} letters", "len({x}) == {j}"), (" of at least {j} letters", "len({x}) >= {j}"),
        (" starting with '{q}'", "{x}.startswith('{q}')"), (" ending with '{q}'", "{x}.endswith('{q}')"),
        (" containing '{q}'", "'{q}' in {x}"), (" not containing '{q}'", "'{q}' not in {x}"),
        (" that start with an uppercase letter", "{x}[0].isupper()"), (" in upper case", "{x}.isupper()"),
        (" that read the same backwards", "{x} == {x}[::-1]"))]


# ---- Inputs of the tests ----

VOCABULARY = ("apple Bob level radar note Anna train cloud TREE river noon stats Paper moon kayak light STONE rose "
              "banana eve garden dad Ocean lamp salt refer sea tree a I of sun Mountain grass").split()


def some_numbers(r):
    return [r.randint(-12, 30) for _ in range(r.randint(6, 12))] if r.random() < 0.9 else []


def some_text(r):
    return "".join(r.choice("aabcdeeefghiiklmnooprsttuuwyAEMRT  0123459!-") for _ in range(r.randint(8, 24)))


def some_words(r):
    return [r.choice(VOCABULARY) for _ in range(r.randint(5, 11))] if r.random() < 0.9 else []


DOMAINS = [
    Domain(4, "number", "numbers", "{p}", "x", "{v}", ("nums", "values", "items", "data", "numbers", "xs"),
           over_numbers("numbers"), NUMBER_MAPS, some_numbers),
    Domain(2, "number", "integers from 1 to {p}", "range(1, {p} + 1)", "i", "{v}", ("n", "limit", "top", "end"),
           over_numbers("integers from 1 to {p}"), NUMBER_MAPS, lambda r: r.randint(1, 40)),
    Domain(2, "number", "digits", "str({p})", "d", "int({v})", ("n", "number", "num", "value"),
           over_numbers("digits", "{j}"), NUMBER_MAPS, lambda r: r.randint(0, 10 ** r.randint(1, 11))),
    Domain(3, "character", "characters", "{p}", "c", "{v}", ("s", "text", "line", "string"),
           ([], CHARACTER_FILTERS, []), TEXT_MAPS, some_text),
    Domain(3, "word", "words", "{p}.split()", "w", "{v}", ("text", "line", "sentence", "s"),
           ([], over_words("words"), []), WORD_MAPS, lambda r: " ".join(some_words(r))),
    Domain(2, "word", "strings", "{p}", "w", "{v}", ("words", "names", "strings", "parts"),
           ([], over_words("strings"), []), WORD_MAPS, some_words),
]
NAMES = ("solve compute process collect run pick select build make find get apply handle reduce scan choose extract "
         "calculate transform evaluate measure combine convert prepare result answer total report update analyze").split()
CONSTANTS = {"k": lambda r: r.randint(1, 20), "j": lambda r: r.randint(2, 9),
             "q": lambda r: r.choice("abcdeghilmnoprstw"), "sep": lambda r: r.choice("-,+_:/")}

# ---- Tasks ----


class Task:
    """A composition with its names and constants."""

    def __init__(self, r):
        d = self.domain = r.choices(DOMAINS, [d.weight for d in DOMAINS])[0]
        adjectives, tails, both = d.filters
        group = r.choices(([], adjectives, tails, both), (2, 2 if adjectives else 0, 6, 2 if both else 0))[0]
        self.filter = r.choice(group) if group else None
        self.maps, kind = [], d.kind
        for _ in range(r.choices((0, 1, 2), (3, 4, 3))[0]):
            self.maps.append(r.choice(d.maps if kind == d.kind else NUMBER_MAPS))
            kind = self.maps[-1].kind or kind
        self.reduction = r.choice([x for x in REDUCTIONS if kind in x.kinds and (x.maps or (self.filter and not self.maps))])
        self.name, self.param = r.choice(NAMES), r.choice(d.params)
        # Constants of filter, reduction and maps are drawn apart.
        self.constants = [{c: draw(r) for c, draw in CONSTANTS.items()} for _ in range(4)]

    def piece(self, index, text, variable=None, **more):
        x = self.domain.x.format(v=variable or self.domain.element)
        return text.format(**{"x": x, "p": self.param, **self.constants[index], **more})

    # What is written

    def condition(self, variable=None):
        return self.piece(0, self.filter.code, variable) if self.filter else ""

    def value(self, variable=None):
        code = self.piece(0, "{x}", variable)
        for i, m in enumerate(self.maps):
            inner = f"({code})" if " " in code or code[0] == "-" else code
            code = m.code.format(**{"x": inner, **self.constants[2 + i]})
        return code

    def source(self):
        return self.piece(0, self.domain.source)

    def expression(self, variable=None):
        v = variable or self.domain.element
        each = f"{self.value(v)} for {v} in {self.source()}" + (f" if {self.condition(v)}" if self.filter else "")
        return self.piece(1, self.reduction.code, g=each)

    def head(self):
        return f"def {self.name}({self.param}):\n"

    def code(self):
        return self.head() + f"    return {self.expression()}\n"

    def loop(self, variable=None, result="result"):
        """The same with a loop, which fills a list."""
        v = variable or self.domain.element
        pad = "    " if self.filter else ""
        lines = [f"    {result} = []", f"    for {v} in {self.source()}:"]
        lines += [f"        if {self.condition(v)}:"] if self.filter else []
        lines += [f"        {pad}{result}.append({self.value(v)})"]
        # The reduction of the list itself: a generator or a list display of all its elements is the list.
        last = self.piece(1, self.reduction.code.replace("[{g}]", "{g}"), g=result)
        return self.head() + "\n".join(lines) + f"\n    return {last}\n"

    # What is said

    def selected(self, quote="`"):
        noun = self.piece(0, self.filter.noun if self.filter else self.domain.noun, p=quote + self.param + quote)
        return f"the {noun}" + ("" if "{p}" in self.domain.noun else f" in {quote}{self.param}{quote}")

    def wanted(self, quote="`"):
        """As one noun phrase: "the sum of the even numbers in `nums`, after squaring each"."""
        after = " and then ".join(self.piece(2 + i, m.doing, e="it" if i else "each") for i, m in enumerate(self.maps))
        return self.piece(1, self.reduction.of, s=self.selected(quote)) + (", after " + after if after else "")

    def steps(self, quote="`"):
        """As orders: "Take the even numbers in `nums`, square each and return their sum"."""
        do = "".join(", " + self.piece(2 + i, m.do, e="it" if i else "each") for i, m in enumerate(self.maps))
        return f"ake {self.selected(quote)}{do} and return {self.piece(1, self.reduction.their)}"

    def instruction(self, r):
        call = f"`{self.name}({self.param})`"
        return r.choice((f"Write a Python function {call} that returns {self.wanted()}.",
                         f"Write a function {call}. T{self.steps()}.",
                         f"Implement {call}: t{self.steps()}.",
                         f"I need a function {call} which gives me {self.wanted()}."))

    def structure(self):
        return structure(self.code())

    def part(self):
        """train, valid or test, by the structure alone."""
        draw = int.from_bytes(hashlib.sha256(self.structure().encode()).digest()[:4], "big") % 100
        return "test" if draw < 15 else "valid" if draw < 20 else "train"


def sample(problem):
    """What is trained on: the problem and its solution."""
    return {"instruction": problem["instruction"], "response": f"{problem['response']}{problem['canonical_solution']}```"}


def function(code, name):
    scope = {}
    exec(code, scope)
    return scope[name]


def variants(task):
    """Wrong solutions that the tests must catch: without the filter, without a map, other constants."""
    f, m, c = task.filter, task.maps, task.constants
    if f:
        task.filter = None
        yield task.code()
        task.filter = f
    for i in range(len(m)):
        task.maps = m[:i] + m[i + 1:]
        yield task.code()
    task.maps = m
    for i in range(len(c)):
        task.constants = [dict(x) for x in c]
        task.constants[i]["k"] += 1
        task.constants[i]["j"] += 1
        task.constants[i]["q"] = "z"
        task.constants[i]["sep"] = ";"
        yield task.code()
    task.constants = c


def problem(task, r, task_id):
    """A problem with tests that tell its wrong variants from it, or None."""
    right = function(task.code(), task.name)
    inputs = [task.domain.values(r) for _ in range(12)]
    try:
        results = [right(x) for x in inputs]
    except IndexError:  # the last letter of what may be empty: asks for nothing sensible
        return None
    for code in variants(task):
        if code == task.code():
            continue
        try:
            if [function(code, task.name)(x) for x in inputs] == results:
                return None
        except (TypeError, ValueError):  # a variant of another type fails the tests by itself
            pass
    test = "def check(candidate):\n" + "".join(f"    assert candidate({x!r}) == {y!r}\n" for x, y in zip(inputs, results))
    prompt, solution = task.code().split(":", 1)
    prompt += ":"  # the answer is begun with it, as with the problems of HumanEval
    return {"task_id": task_id, "instruction": task.instruction(r), "prompt": prompt, "response": "```python\n" + prompt,
            "entry_point": task.name, "test": test, "canonical_solution": solution}


def draw(seed, part, count):
    """Problems of a part; those of valid and test have each a structure of their own."""
    r, seen = random.Random(f"{part} {seed}"), set()
    while len(seen) < count:
        task = Task(r)
        if task.part() != part:
            continue
        key = task.structure() if part != "train" else task.instruction(random.Random(0))
        if key in seen:
            continue
        made = problem(task, r, f"{part}/{len(seen)}")
        if made is None:
            continue
        seen.add(key)
        yield made


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--seed", default="1")
    for part, count in (("train", 1100), ("valid", 100), ("test", 250)):
        p.add_argument("--" + part, type=int, default=count, help=f"number of tasks ({count})")
    a = p.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    for part in ("train", "valid", "test"):
        problems = list(draw(a.seed, part, getattr(a, part)))
        if part != "test":
            write(os.path.join(a.folder, part + ".jsonl"), map(sample, problems))
        if part != "train":
            write(os.path.join(a.folder, part + "-problems.jsonl"), problems)


if __name__ == "__main__":
    main()
