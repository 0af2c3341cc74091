#!/usr/bin/env python3
"""Table of finished runs: mean and standard deviation (n - 1) of the test error over seeds.

usage: summarize.py FOLDER...      every folder with a summary.json below FOLDER counts

Runs are grouped by the name of their folder without its seed. The column `worst` is the largest error of the group, `guessing` the number of runs
that end above 50 % error.
"""
import json
import pathlib
import re
import statistics
import sys

groups = {}
for folder in sys.argv[1:]:
    for path in sorted(pathlib.Path(folder).rglob("summary.json")):
        run = json.loads(path.read_text())
        name = re.sub(r"[-/]?seed-\d+$", "", str(path.parent.relative_to(folder)))
        groups.setdefault(name, []).append(run)
if not groups:
    sys.exit("summarize.py: no summary.json below " + " ".join(sys.argv[1:]))

print("| runs | seeds | kept weights | test error | worst | guessing |")
print("|---|---|---|---|---|---|")
for name, runs in groups.items():
    errors = [100 * run["test_error"] for run in runs]
    spread = f" ± {statistics.stdev(errors):.3f}" if len(errors) > 1 else ""
    kept = round(runs[0]["density"] * runs[0]["weights"])
    guessing = sum(error > 50 for error in errors)
    print(f"| {name} | {len(runs)} | {kept:,} | {statistics.mean(errors):.3f}{spread} % | {max(errors):.2f} % | {guessing} |")
