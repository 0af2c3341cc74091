"""How long PyTorch takes for one training step of a network, on the CPU.

    venv/bin/python scripts/pytorch_step_time.py lenet5 --batch 64 --threads 1
    venv/bin/python scripts/pytorch_step_time.py my-net.toml --batch 16 --threads 2 --seconds 20

A step is forward, cross-entropy, backward and an update by SGD with Nesterov momentum and weight decay, with the data already in
memory. Both memory layouts take turns in short rounds, so that both see the same noise of the machine.
Prints one JSON object: for each layout the least, the median and the 90th percentile of the milliseconds a step.
"""

import argparse
import json
import platform
import resource
import statistics
import time

import torch
from torch.nn import functional as F

from torch_network import load

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def stepper(arguments, layout):
    """A function that makes one training step."""
    torch.manual_seed(0)
    network = load(arguments.network).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=5e-4)
    images = torch.randn(arguments.batch, *network.input).to(memory_format=layout)
    labels = torch.randint(network.classes, (arguments.batch,))

    def step():
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="zoo name or TOML file")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure, all layouts together")
    parser.add_argument("--layout", choices=LAYOUTS, help="this memory layout only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layouts = {arguments.layout: LAYOUTS[arguments.layout]} if arguments.layout else LAYOUTS
    steps = {name: stepper(arguments, layout) for name, layout in layouts.items()}
    for step in steps.values():
        for _ in range(2):
            step()
    times = {name: [] for name in steps}
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 3:
        for name, step in steps.items():
            round_end = time.perf_counter() + 0.2
            while True:
                start = time.perf_counter()
                step()
                now = time.perf_counter()
                times[name].append(1e3 * (now - start))
                if now >= round_end:
                    break
    result = {
        "network": arguments.network,
        "batch": arguments.batch,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "milliseconds": {
            name: {
                "min": round(min(found), 4),
                "median": round(statistics.median(found), 4),
                "p90": round(sorted(found)[int(0.9 * (len(found) - 1))], 4),
                "steps": len(found),
            }
            for name, found in times.items()
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
