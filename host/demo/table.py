#!/usr/bin/env python3
"""The table of the demo: pass@1 of each model, over the runs in the folders given.

    table.py FOLDER…

Each FOLDER holds scores.json, as `xft run` writes it, and a folder per stage with log.jsonl.
"""
import json
import os
import statistics
import sys

NAMES = {"base": "base, as it ships", "sft": "dense SFT: the baseline", "moe": "XFT's MoE", "uniform":
         "XFT merged, uniform", "merged": "XFT merged, learned"}


def scores(folder):
    with open(os.path.join(folder, "scores.json"), encoding="utf-8") as file:
        return {row["model"]: row for row in json.load(file)["scores"]}


def seconds(folder):
    """Of training, over all stages."""
    total = 0
    for stage in os.listdir(folder):
        path = os.path.join(folder, stage, "log.jsonl")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                events = [json.loads(line) for line in file]
            total += sum(event["seconds"] for event in events if event["event"] == "end")
    return total


def spread(values, digits):
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def main():
    folders = sys.argv[1:]
    if not folders:
        sys.exit(__doc__.strip())
    runs = [scores(folder) for folder in folders]
    problems = {row["problems"] for run in runs for row in run.values()}
    count = f"{len(folders)} runs, mean ± standard deviation" if len(folders) > 1 else "1 run"
    print(f"| model | pass@1, % | loss on held-out answers |\n|---|---|---|")
    for name, title in NAMES.items():
        rows = [run[name] for run in runs]
        print(f"| {title} | {spread([100 * row['pass@1'] for row in rows], 1)} | "
              f"{spread([row['loss'] for row in rows], 3)} |")
    print(f"\n{count}; {'/'.join(map(str, sorted(problems)))} held-out tasks; "
          f"{spread([seconds(folder) for folder in folders], 0)} s of training per run")


if __name__ == "__main__":
    main()
