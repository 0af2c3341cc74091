"""LeNet-5 (20-50-500) on MNIST in PyTorch, dense or by iterative hard thresholding: an independent check of our numbers.

    venv/bin/python scripts/pytorch_train.py --data DIR                    # dense; DIR/mnist holds the four IDX files
    venv/bin/python scripts/pytorch_train.py --density 0.1 --clip 1        # IHT, $SKINNY_DATA is the default of --data
    for seed in 0 1 2; do venv/bin/python scripts/pytorch_train.py --density 0.5 --seed $seed; done

One letter of --phases is one epoch: D dense, S sparse. At D→S, in each conv and linear layer, the round(density n) largest
magnitudes are kept and the others and their momentum become 0; in S only kept weights change; at S→D the others may change
again, from 0. One-cycle learning rate, SGD with Nesterov momentum 0.9, weight decay 5e-4, biases never thresholded.
All 60,000 training images, no augmentation; the test set is looked at after every epoch but chooses nothing.
Prints one JSON object per epoch and a last one with the result.
"""

import argparse
import gzip
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from torch_network import load


def idx(folder, name):
    """The array in an IDX file, gzip or raw."""
    for path, opener in ((folder / f"{name}.gz", gzip.open), (folder / name, open)):
        if path.exists():
            with opener(path, "rb") as file:
                content = file.read()
            dimensions = content[3]
            shape = np.frombuffer(content, ">u4", dimensions, 4)
            return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    sys.exit(f"{folder / name}[.gz] is missing; give the folder above mnist/ by --data or $SKINNY_DATA")


def mnist(root, part):
    folder = Path(root) / "mnist"
    images = torch.from_numpy(idx(folder, f"{part}-images-idx3-ubyte").astype(np.float32))
    labels = torch.from_numpy(idx(folder, f"{part}-labels-idx1-ubyte").astype(np.int64))
    return ((images / 255 - 0.1307) / 0.3081).unsqueeze(1), labels


def thresholded(network):
    return [tensor for name, tensor in network.named().items() if name.endswith(".weight")]


def threshold(network, optimizer, density):
    """Keeps the largest weights of each layer; zeroes the others and their momentum; returns the masks."""
    masks = []
    for tensor in thresholded(network):
        kept = torch.topk(tensor.detach().abs().flatten(), round(density * tensor.numel())).indices
        mask = torch.zeros(tensor.numel(), dtype=torch.bool)
        mask[kept] = True
        masks.append(mask.view_as(tensor))
    commit(network, optimizer, masks)
    return masks


def commit(network, optimizer, masks):
    with torch.no_grad():
        for tensor, mask in zip(thresholded(network), masks):
            tensor.mul_(mask)
            if "momentum_buffer" in optimizer.state[tensor]:
                optimizer.state[tensor]["momentum_buffer"].mul_(mask)


def evaluate(network, images, labels):
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(part) for part in images.split(1000)])
    network.train()
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) != labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKINNY_DATA"), help="folder with mnist/ ($SKINNY_DATA)")
    parser.add_argument("--network", default="lenet5", help="zoo name or TOML file, input 1x28x28")
    parser.add_argument("--density", type=float, default=1.0, help="1 = dense, no phases")
    parser.add_argument("--phases", default="DDDSSDSSDSSSSSS", help="one letter an epoch")
    parser.add_argument("--lr", type=float, default=0.05, help="peak of the one-cycle rate")
    parser.add_argument("--clip", type=float, default=0.0, help="bound of the gradient norm, 0 = none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    arguments = parser.parse_args()
    if not arguments.data:
        sys.exit("give the folder above mnist/ by --data or $SKINNY_DATA")
    if not 0 < arguments.density <= 1 or set(arguments.phases) - {"D", "S"} or not arguments.phases:
        sys.exit("--density is in (0, 1]; --phases is made of D and S")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    images, labels = mnist(arguments.data, "train")
    test = mnist(arguments.data, "t10k")
    network = load(arguments.network)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=arguments.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    phases = arguments.phases if arguments.density < 1 else "D" * len(arguments.phases)
    # The last, incomplete batch of an epoch is left out.
    batches = len(images) // arguments.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, arguments.lr, total_steps=batches * len(phases), cycle_momentum=False
    )
    start, masks = time.perf_counter(), None
    for epoch, phase in enumerate(phases):
        if phase == "S" and masks is None:
            masks = threshold(network, optimizer, arguments.density)
        elif phase == "D":
            masks = None
        total = 0.0
        for chosen in torch.randperm(len(images)).split(arguments.batch)[:batches]:
            loss = F.cross_entropy(network(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            for tensor, mask in zip(thresholded(network), masks or []):
                tensor.grad.mul_(mask)
            if arguments.clip > 0:
                torch.nn.utils.clip_grad_norm_(network.parameters(), arguments.clip)
            optimizer.step()
            schedule.step()
            if masks is not None:
                commit(network, optimizer, masks)
            total += loss.item()
        test_loss, test_error = evaluate(network, *test)
        print(
            json.dumps({"epoch": epoch + 1, "phase": phase, "train_loss": total / batches, "test_error": test_error}),
            flush=True,
        )
    result = {
        **vars(arguments),
        "nonzeros": sum(int(tensor.count_nonzero()) for tensor in thresholded(network)),
        "weights": sum(tensor.numel() for tensor in thresholded(network)),
        "test_loss": test_loss,
        "test_error": test_error,
        "seconds": round(time.perf_counter() - start, 1),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
