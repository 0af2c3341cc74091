#!/usr/bin/env python3
"""The runtime beside ONNX Runtime, on this machine: same weights, batch and threads, both engines in turn with pauses.

    scripts/compare_inference_speed.py --cases nin,nin-64,alexnet-fc,resnet20,alexnet --out results/inference-speed
    scripts/compare_inference_speed.py --cases nin --threads 1 --density 1,0.25 --out /tmp/nin
    scripts/compare_inference_speed.py --cases lenet5 --lenet5 runs/mnist-lenet5-iht-10x --out results/inference-speed
    scripts/compare_inference_speed.py --cases nin-layers,resnet20-layers --out results/inference-speed

Runs `skinny bench --against onnxruntime` in the environment of --venv (`python3 -m venv DIR && DIR/bin/pip install onnxruntime onnx numpy
torch safetensors`), and writes measurements.json, what a folder has of other cases kept, and from it the tables of README.md. Weights are
random with random masks, but those of --lenet5. Needs a built skinny (`cargo build --release`) and Python 3.9 or newer.
"""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "inference-speed"
ALL = "1,0.5,0.25,0.1,0.05"
ORT, INT8 = "onnxruntime", "onnxruntime-int8"
# Case: model, densities, batch, other programs.
CASES = {
    "nin": ("nin-cifar10", ALL, 1, [ORT]),
    "nin-int8": ("nin-cifar10", "0.25,0.1,0.05", 1, [INT8]),
    "nin-64": ("nin-cifar10", ALL, 64, [ORT]),
    "alexnet-fc": (RESULTS / "alexnet-fc.toml", ALL, 1, [ORT]),
    "alexnet-fc-int8": (RESULTS / "alexnet-fc.toml", ALL, 1, [ORT]),
    "resnet20": ("resnet20", "1,0.25,0.1", 1, [ORT]),
    "alexnet": ("alexnet", "1,0.25,0.1", 1, [ORT]),
    "lenet5": (None, None, 1, [ORT]),
}
OPTIONS = {"alexnet-fc-int8": ["--int8"]}
LAYERS = {
    "nin-layers": ("nin-cifar10", ALL),
    "alexnet-fc-layers": (RESULTS / "alexnet-fc.toml", ALL),
    "alexnet-fc-int8-layers": (RESULTS / "alexnet-fc.toml", ALL),
    "resnet20-layers": ("resnet20", "0.25,0.1"),
    "alexnet-layers": ("alexnet", "0.25,0.1"),
}
INSTRUCTIONS = {"avx512": "AVX-512", "avx2": "AVX2", "baseline": "SSE2 or NEON"}
NAMES = {"alexnet-fc": "AlexNet fc6–fc8", "alexnet-fc-int8": "AlexNet fc6–fc8, ours int8", "lenet5": "LeNet-5, 10x by IHT"}
END = "<!-- the end of what scripts/compare_inference_speed.py writes -->"


def bench(skinny, python, model, more):
    """The objects that `skinny bench` prints."""
    command = [skinny, "--json", "bench", model, *more]
    environment = dict(os.environ, SKINNY_PYTHON=str(python))
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(arguments, case, densities, threads):
    model, own, batch, against = CASES[case]
    model = model or arguments.lenet5
    if model is None:
        raise SystemExit("name a finished run of mnist-lenet5-iht-10x with --lenet5")
    more = ["--batch", batch, "--threads", threads, "--against", ",".join(against), "--seconds", arguments.seconds]
    more += OPTIONS.get(case, [])
    if own:
        more += ["--density", densities or own]
    found = bench(arguments.skinny, arguments.venv / "bin" / "python", model, more)
    asked = [float(density) for density in (densities or own).split(",")] if own else [0.1]
    counts = [int(count) for count in threads.split(",")]
    keys = [(density, count) for density in asked for count in counts]
    for (density, count), result in zip(keys, found):
        assert result["threads"] == count and result["batch"] == batch
        del result["model"], result["event"]
        yield f"{case} {density} {count}", {"case": case, "density": density} | result


def measure_layers(arguments, case, densities):
    model, own = LAYERS[case]
    asked = densities or own
    more = ["--density", asked, "--threads", 1, "--seconds", 0, "--layers"]
    more += OPTIONS.get(case.removesuffix("-layers"), [])
    density = iter(asked.split(","))
    for result in bench(arguments.skinny, arguments.venv / "bin" / "python", model, more):
        if result["event"] == "bench":
            now = float(next(density))
        else:
            del result["model"], result["event"]
            yield f"{case} {now} {result['layer']}", {"case": case, "of": now} | result


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def both(result):
    return f"{result['latency_ms_median']:.3g}, {result['latency_ms_min']:.3g}"


def peaks(measurements):
    """GFLOP/s by threads: the median of all that were measured, for one alone may be of a bad moment."""
    found = [result for result in measurements.values() if "peak_gflops" in result]
    return {
        threads: statistics.median(result["peak_gflops"] for result in found if result["threads"] == threads)
        for threads in sorted({result["threads"] for result in found})
    }


def speed_rows(measurements):
    peak = peaks(measurements)
    order = [(case, density, threads) for case in CASES for threads in (1, 2) for density in (1, 0.5, 0.25, 0.1, 0.05)]
    for case, density, threads in order:
        result = measurements.get(f"{case} {float(density)} {threads}")
        if result is None:
            continue
        for peer, other in result["peers"].items():
            yield [
                NAMES.get(case, str(CASES[case][0])), f"{density:g}", str(result["batch"]), str(threads), both(result),
                peer.removeprefix("onnxruntime-"), both(other), f"{other['ratio_median']:.2f}", f"{other['ratio_min']:.2f}",
                f"{100 * result['gflops_real'] / peak[threads]:.0f} %", f"{result['load_ms']:.0f}", f"{result['peak_rss_bytes'] / 1e6:.0f}",
            ]


def layer_rows(measurements, case):
    """A row per layer, a column per density: the kernel, its time, and how much faster than all weights that is."""
    found = [result for result in measurements.values() if result["case"] == case]
    densities = sorted({result["of"] for result in found}, reverse=True)
    layers = list(dict.fromkeys(result["layer"] for result in found))
    yield ["layer"] + [f"{density:g}" for density in densities]
    for layer in layers:
        row = [layer]
        for density in densities:
            result = measurements.get(f"{case} {density} {layer}")
            if result is None:
                row.append("–")
                continue
            times, kernel = result["microseconds"], result["kernel"]
            row.append(f"{kernel} {times[kernel]:.3g} µs, {times['dense'] / times[kernel]:.2f}")
        yield row


def page(measurements, machine):
    version = next((peer["version"] for m in measurements.values() for peer in m.get("peers", {}).values()), "?")
    peak = peaks(measurements)
    parts = [
        f"# The runtime beside ONNX Runtime, with {INSTRUCTIONS.get(machine['instructions'], machine['instructions'])}",
        f"{machine['processor']}, {machine['cores']} cores, instructions {machine['instructions']}; ONNX Runtime {version}, which uses what the processor has; "
        "multiply-adds in registers reach " + ", ".join(f"{peak[n]:.0f} GFLOP/s on {n} thread{'s' if n > 1 else ''}" for n in sorted(peak)) + ".",
        "Median and least milliseconds of a run of the whole network, both programs in turn with pauses, on the same weights: random ones with random masks "
        "of that density in every layer, but where IHT is named. The outputs agree to 1e-4 of the largest (int8 rounds). The ratios are the other's time "
        "divided by ours, by medians and by least times. *of peak* counts only multiply-adds with weights that are kept; load time and memory are those of a "
        "process that does nothing else.",
        table(["network", "density", "batch", "threads", "skinny ms", "against", "its ms", "ratio", "least ratio", "of peak", "load ms", "MB"],
              list(speed_rows(measurements))),
    ]
    for case in LAYERS:
        rows = list(layer_rows(measurements, case))
        if len(rows) > 1:
            parts += [f"## Layers of {NAMES.get(case.removesuffix('-layers'), LAYERS[case][0])}",
                      "The kernel that the model of costs chooses, its time for one image (for one tile in a chain of 1×1 convolutions), and how many times faster "
                      "than our kernel for all weights it is: measured one by one, outside of the network.",
                      table(rows[0], rows[1:])]
    return "\n\n".join(parts) + "\n\n" + END + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(case for case in [*CASES, *LAYERS] if case != "lenet5"))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--density", help="instead of all of the case")
    parser.add_argument("--seconds", default="3", help="of each line of the table")
    parser.add_argument("--lenet5", help="a run folder or .skinny file, for the case lenet5")
    parser.add_argument("--venv", type=Path, default=Path.home() / ".cache" / "skinny" / "peers")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--skinny", type=Path, default=target / "release" / "skinny")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "measurements.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    environment = json.loads(subprocess.run([arguments.skinny, "--json", "env"], capture_output=True, text=True, check=True).stdout)
    machine = {key: environment[key] for key in ("processor", "cores", "instructions")}
    if kept and kept["machine"] != machine:
        raise SystemExit(f"{path} holds measurements of another machine, {kept['machine']}; choose another --out")
    measurements = kept.get("measurements", {})
    for case in filter(None, arguments.cases.split(",")):
        measured = measure_layers(arguments, case, arguments.density) if case in LAYERS else measure(
            arguments, case, arguments.density, arguments.threads)
        for key, result in measured:
            measurements[key] = result
        path.write_text(json.dumps({"machine": machine, "measurements": measurements}, indent=1) + "\n")
    readme = arguments.out / "README.md"
    # What somebody has written below stays.
    after = readme.read_text().partition(END)[2] if readme.exists() else ""
    readme.write_text(page(measurements, machine) + after.lstrip("\n"))


if __name__ == "__main__":
    main()
