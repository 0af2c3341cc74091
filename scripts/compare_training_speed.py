#!/usr/bin/env python3
"""A training step of skinny beside PyTorch's, on this machine: same network, batch and threads, one process after the other.

    scripts/compare_training_speed.py --out results/training-speed
    scripts/compare_training_speed.py --networks nin-cifar10:128 --threads 1 --rounds 5 --out /tmp/nin

Makes a virtual environment with PyTorch from PyPI (`--venv`, default ~/.cache/skinny/peers) unless one is there, builds skinny,
and lets the engines take turns: in every round each of them starts, warms up and measures for some seconds. Writes
measurements.json (every round) and a table (medians over all rounds' medians, the least of all steps, ratios, shares of the peak that
multiply-adds in registers reach, peak memory, versions); what a folder has of other networks stays. Needs cargo and Python 3.9 or newer.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = "nin-cifar10:128,nin-mnist:128,resnet20:128,alexnet:32,lenet5:64"
LAYOUTS = ["nchw", "channels_last"]


def python_with_torch(folder):
    """The interpreter of a virtual environment that has PyTorch."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
    if subprocess.run([python, "-c", "import torch, numpy"], capture_output=True).returncode != 0:
        index = [] if sys.platform == "darwin" else ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "numpy", *index], check=True)
    return python


def run(command):
    """The last line that a program prints, as JSON."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def skinny_step(skinny, network, batch, threads, seconds, density=None):
    command = [skinny, "bench", "--json", "--train", network, "--batch", batch, "--threads", threads, "--seconds", seconds]
    found = run(command + (["--density", density] if density else []))
    keys = ["step_ms_median", "step_ms_min", "gflops", "fma_peak_gflops", "peak_rss_bytes"]
    return {key: found[key] for key in keys} | {"steps": found["steps"], "instructions": found["instructions"]}


def torch_step(python, network, batch, threads, seconds, layout):
    command = [python, "scripts/pytorch_step_time.py", network, "--batch", batch, "--threads", threads, "--seconds", seconds]
    found = run(command + ["--layout", layout])
    times = found["milliseconds"][layout]
    return {
        "step_ms_median": times["median"],
        "step_ms_min": times["min"],
        "peak_rss_bytes": found["peak_rss_bytes"],
        "steps": times["steps"],
        "torch": found["torch"],
    }


def measure(arguments):
    python = python_with_torch(arguments.venv)
    skinny = arguments.skinny
    if skinny is None:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
        skinny = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "skinny"
    cases = []
    for item in arguments.networks.split(","):
        network, batch = item.split(":")
        turns = []
        for threads in arguments.threads:
            engines = {"skinny": lambda s, n=network, b=batch, t=threads: skinny_step(skinny, n, b, t, s)}
            for layout in LAYOUTS:
                engines[f"torch {layout}"] = lambda s, n=network, b=batch, t=threads, l=layout: torch_step(python, n, b, t, s, l)
            if network == arguments.sparse:
                for density in arguments.densities:
                    engines[f"skinny at {density}"] = lambda s, n=network, b=batch, t=threads, d=density: skinny_step(
                        skinny, n, b, t, s, d
                    )
            turns.append((threads, engines, {name: [] for name in engines}))
        # All numbers of threads within each round: a machine that slows down does it to all of them.
        for number in range(arguments.rounds):
            for threads, engines, rounds in turns:
                for name, engine in engines.items():
                    print(f"{network}, {threads} threads, round {number + 1}: {name}", file=sys.stderr)
                    rounds[name].append(engine(arguments.seconds))
        for threads, _, rounds in turns:
            cases.append({"network": network, "batch": int(batch), "threads": threads, "rounds": rounds})
    return cases


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def table(cases):
    """Markdown: one row per network, number of threads and engine."""
    rows = ["| network, batch | threads | engine | median ms | least ms | faster torch ÷ this | of peak | peak memory |", "|---|---|---|---|---|---|---|---|"]
    for case in cases:
        median = {name: statistics.median(r["step_ms_median"] for r in rounds) for name, rounds in case["rounds"].items()}
        torch = min(value for name, value in median.items() if name.startswith("torch"))
        work = case["rounds"]["skinny"][0]
        operations = work["gflops"] * work["step_ms_median"]
        peak = max(r["fma_peak_gflops"] for r in case["rounds"]["skinny"])
        for name, rounds in case["rounds"].items():
            least = min(r["step_ms_min"] for r in rounds)
            memory = max(r["peak_rss_bytes"] for r in rounds) / 1e6
            share = 100 * operations / median[name] / peak
            rows.append(
                f"| {case['network']}, {case['batch']} | {case['threads']} | {name} | {median[name]:.1f} | {least:.1f} "
                f"| {torch / median[name]:.2f} | {share:.0f} % | {memory:.0f} MB |"
            )
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=NETWORKS, help="NETWORK:BATCH,…")
    parser.add_argument("--threads", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each engine in each round")
    parser.add_argument("--sparse", default="nin-cifar10", help="the network whose sparse phases are measured too")
    parser.add_argument("--densities", type=lambda text: [float(word) for word in text.split(",")], default=[0.25, 0.1, 0.05])
    parser.add_argument("--venv", type=Path, default=Path.home() / ".cache" / "skinny" / "peers")
    parser.add_argument("--skinny", type=Path, help="this program instead of building one")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    before = arguments.out / "measurements.json"
    cases = json.loads(before.read_text()) if before.exists() else []
    new = measure(arguments)
    measured = [(case["network"], case["threads"]) for case in new]
    cases = [case for case in cases if (case["network"], case["threads"]) not in measured] + new
    (arguments.out / "measurements.json").write_text(json.dumps(cases, indent=1) + "\n")
    torch = cases[0]["rounds"]["torch nchw"][0]["torch"]
    instructions = cases[0]["rounds"]["skinny"][0]["instructions"]
    head = f"{processor()}, {os.cpu_count()} cores, {instructions}; PyTorch {torch}; {arguments.rounds} rounds of {arguments.seconds:g} s an engine.\n"
    (arguments.out / "table.md").write_text(head + "\n" + table(cases) + "\n")
    print(head + "\n" + table(cases))


if __name__ == "__main__":
    main()
