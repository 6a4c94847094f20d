#!/usr/bin/env python3
"""The structure of Python code: what is left when identifiers and constants are renamed.

    structure.py TRAIN… -- HELD_OUT…

fails when a held-out solution has the structure of one in the training files. Files are JSONL; the code is
what is fenced in a response or completion, or all of it when nothing is; of problems, prompt and canonical_solution.
"""
import ast
import json
import re
import sys


class Rename(ast.NodeTransformer):
    """Functions, parameters and variables become v0, v1, … in the order of their binding; every constant becomes 0.

    Names that the code does not bind itself (sum, len, str …) and methods stay: they are what the code does.
    """

    def __init__(self, tree):
        self.names = {}
        for node in ast.walk(tree):
            bound = (node.name if isinstance(node, ast.FunctionDef) else node.arg if isinstance(node, ast.arg) else
                     node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None)
            if bound is not None:
                self.names.setdefault(bound, f"v{len(self.names)}")

    def visit_FunctionDef(self, node):
        node.name = self.names[node.name]
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    def visit_arg(self, node):
        node.arg = self.names[node.arg]
        return node

    def visit_Name(self, node):
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_Constant(self, node):
        return ast.Constant(0)


def structure(code):
    tree = ast.parse(code)
    return ast.dump(Rename(tree).visit(tree))


def structures(path):
    """Of every function in a file, with the line it stands in."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line)
            solved = row["prompt"] + row["canonical_solution"] if "canonical_solution" in row else None
            text = solved or row.get("completion") or row["response"]
            for code in re.findall(r"```python\n(.*?)```", text, re.S) or [text]:
                for node in ast.walk(ast.parse(code)):
                    if isinstance(node, ast.FunctionDef):
                        yield structure(ast.unparse(node)), f"{path}:{number}"


def main():
    if "--" not in sys.argv:
        sys.exit(__doc__.strip())
    split = sys.argv.index("--")
    trained = {}
    for path in sys.argv[1:split]:
        for key, place in structures(path):
            trained.setdefault(key, place)
    held_out, common = 0, 0
    for path in sys.argv[split + 1:]:
        for key, place in structures(path):
            held_out += 1
            if key in trained:
                common += 1
                print(f"{place} has the structure of {trained[key]}", file=sys.stderr)
    print(f"{len(trained)} structures in training, {held_out} held-out solutions, {common} in common")
    return 1 if common or not trained or not held_out else 0


if __name__ == "__main__":
    sys.exit(main())
