#!/usr/bin/env python3
"""Prints the tables of docs/results.md anew, each by the command in the mark above it.

usage: results_tables.py [SKINNY]     run at the root of the repository; SKINNY is the program, else the one of the release build

A mark is a line `<!-- skinny compare … -->`; what stands between it and the next `<!-- end -->` is replaced. Only `skinny compare` is run.
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys

built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release" / "skinny"
program = sys.argv[1] if len(sys.argv) > 1 else str(built)
page = pathlib.Path("docs/results.md")
missing = "*Not run yet; it is in the queue.*"


def table(match):
    command = shlex.split(match["command"])
    run = subprocess.run([program, *command[1:]], capture_output=True, text=True)
    # 3: no run of the study is finished.
    begun = any(pathlib.Path(command[2]).glob("*/summary.json"))
    if run.returncode != 0 and (run.returncode != 3 or begun):
        sys.exit(f"results_tables.py: {match['command']}: {run.stderr.strip()}")
    text = run.stdout.strip() if run.returncode == 0 else missing
    return f"<!-- {match['command']} -->\n\n{text}\n\n<!-- end -->"


pattern = re.compile(r"<!-- (?P<command>skinny compare [^\n]*?) -->\n.*?<!-- end -->", re.DOTALL)
page.write_text(pattern.sub(table, page.read_text()))
