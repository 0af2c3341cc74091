"""Values of PyTorch that the training engine is tested against.

    python3 -m venv venv && venv/bin/pip install -r scripts/requirements.txt
    venv/bin/python scripts/pytorch_fixtures.py            # writes crates/train/tests/fixtures/*.json
    venv/bin/python scripts/pytorch_fixtures.py lenet5     # only the cases whose name contains lenet5
    venv/bin/python scripts/pytorch_fixtures.py --check    # runs other float32 code paths against the files

Nothing large is stored: both sides make weights, images and labels from the tensors' names.

    GOLDEN   = 0x9E3779B97F4A7C15
    key      = FNV-1a 64 of the name's UTF-8 bytes, xor 0x736B696E6E79
    bits(i)  = splitmix64's finalizer of key + (i + 1) * GOLDEN           (64-bit, wrapping; i from 0, row-major)
    unit(i)  = f32(bits(i) >> 40) * 2^-23 - 1                             (exact, in [-1, 1))
    value(i) = offset + scale * unit(i)                                   (two f32 roundings, no fused multiply-add)
    label(i) = (bits(i) >> 32) mod classes

`scale` and `offset` of each tensor are in the file; they come from the tensor's role:

    weight of conv and linear     scale f32 sqrt(f32(6) / f32(fan_in)), offset 0
    bias, BatchNorm shift         scale 0.1, offset 0
    BatchNorm scale               scale 0.1, offset 1
    running mean, running variance   0 and 1
    images of training step t     name "input.DRAW.t", scale 1, offset 0; labels are named "labels.DRAW.t"

Masks (where a case has `mask_density` d) keep weight i of a conv or linear weight named X iff
unit(i) of the name "X.mask" < f32(2 d - 1); the weights start with the mask applied.

Training step t: loss = mean cross-entropy of batch t; gradients; masks on gradients; clipping of the norm over all
parameters; update; masks on weights and slots; moving average. Each parameter has its own factors of learning rate
and decay, from the network's TOML. Dropout is off. BatchNorm is PyTorch's (running variance unbiased).

A file is one JSON object:

    name, network                 "lenet5" = the zoo's; "networks/x.toml" = beside the file
    batch, classes, steps, draw
    optimizer                     {kind: "sgd" | "caffe-sgd" | "adamw", momentum, nesterov, beta1, beta2, epsilon, weight_decay}
                                  sgd:       g += decay W; V = momentum V + g; W -= rate V      (nesterov: W -= rate (g + momentum V))
                                  caffe-sgd: V = momentum V + rate (g + decay W); W -= V        (nesterov: W -= (1 + momentum) V - momentum V_before)
                                  adamw:     torch.optim.AdamW
    learning_rates                one for each step
    label_smoothing, clip_norm, ema_decay, mask_density      0 or null = off
    samples                       how many elements of each tensor are stored
    input_check, labels_check     the first generated values of step 0
    loss, gradient_norm           {values, deviation} for each step; the norm is taken after masks, before clipping
    logits_before                 {values, deviation}: the first logits, row-major [images, classes], of the images of step 0
                                  in evaluation mode, before any step
    logits_after                  the same after the last step
    parameters[]                  {name, shape, scale, offset, check, gradient, change, average}, running statistics included

`check` = the first generated values. `gradient` = of step 0, before masks, clipping and decay; null for running statistics.
`change` = values after the last step minus values before the first. `average` = moving average (from the starting values on:
average = d average + (1 - d) W after each step) minus starting values, or null. Each of these is a summary {norm, sum, samples, deviations}: `samples` are all elements of a tensor that has no more than `samples` of
them, else the elements bits(j) mod length of the name "X.samples", j = 0, 1, ...

Values are computed in float64. Deviations say what float32 may cost, the largest over PyTorch's float32 code paths (oneDNN, plain,
channels_last): `deviation` is max |x - float64|; `deviations` is that over the whole tensor, then the L2 norm of the difference,
then the difference of the sums.

Where a ReLU's input is nearly 0, or two values in a window of a max pool nearly tie, float32 may take the other branch, and a
gradient jumps by a per cent. So each case has a `draw` of images for which nothing comes that close: `margin` is the smallest such
distance in the whole run, relative to the root mean square of the layer's input. `--search` looks for the best draw.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from torch_network import REPOSITORY, BatchNorm, MaxPool, load

FIXTURES = REPOSITORY / "crates" / "train" / "tests" / "fixtures"
GOLDEN = 0x9E3779B97F4A7C15
SEED = 0x736B696E6E79
WORD = (1 << 64) - 1
CHECKED = 3
FLOAT32_PATHS = ("onednn", "plain", "channels_last")


# The generator.


def key(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & WORD
    return value ^ SEED


def bits(name, length):
    start = np.uint64((key(name) + GOLDEN) & WORD)
    z = np.arange(length, dtype=np.uint64) * np.uint64(GOLDEN) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def values(name, length, scale, offset=0.0):
    unit = (bits(name, length) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return np.float32(offset) + np.float32(scale) * unit


def labels(name, length, classes):
    return ((bits(name, length) >> np.uint64(32)) % np.uint64(classes)).astype(np.int64)


def sample_indices(name, length, samples):
    if length <= samples:
        return np.arange(length)
    return (bits(f"{name}.samples", samples) % np.uint64(length)).astype(np.int64)


def scale_and_offset(network, name):
    layer, kind = name.rsplit(".", 1)
    if isinstance(network.layers[layer], BatchNorm):
        return {
            "weight": (0.1, 1.0),
            "bias": (0.1, 0.0),
            "running_mean": (0.0, 0.0),
            "running_var": (0.0, 1.0),
        }[kind]
    if kind == "bias":
        return 0.1, 0.0
    scale = np.sqrt(np.float32(6) / np.float32(network.fan_in[name]))
    return float(str(np.float32(scale))), 0.0


def thresholded(network, name):
    return name.endswith(".weight") and not isinstance(network.layers[name.rsplit(".", 1)[0]], BatchNorm)


# The cases.


def case(name, network=None, batch=4, rates=(0.05, 0.05, 0.05), kind="sgd", **settings):
    """Settings of one file; anything not given is off."""
    assert set(settings) <= {
        "momentum", "nesterov", "beta1", "beta2", "epsilon", "weight_decay",
        "label_smoothing", "clip_norm", "ema_decay", "mask_density", "samples", "draw",
    }, settings  # fmt: skip
    optimizer = {
        "kind": kind,
        "momentum": settings.get("momentum", 0.0 if kind == "adamw" else 0.9),
        "nesterov": settings.get("nesterov", False),
        "beta1": settings.get("beta1", 0.9),
        "beta2": settings.get("beta2", 0.999),
        "epsilon": settings.get("epsilon", 1e-8),
        "weight_decay": settings.get("weight_decay", 0.0),
    }
    return {
        "name": name,
        "network": network or name,
        "batch": batch,
        "steps": len(rates),
        "draw": settings.get("draw", 0),
        "optimizer": optimizer,
        "learning_rates": list(rates),
        "label_smoothing": settings.get("label_smoothing", 0.0),
        "clip_norm": settings.get("clip_norm"),
        "ema_decay": settings.get("ema_decay"),
        "mask_density": settings.get("mask_density"),
        "samples": settings.get("samples", 8),
    }


# The draw of the layer types whose first draw comes too close to a branch.
DRAWS = {"odd": 18, "globalpool": 39, "maxpool-ceil": 24, "conv-groups": 22, "conv-oblong": 33}


def cases():
    layer_types = [
        "conv-plain", "conv-strided", "conv-oblong", "conv-groups", "linear", "batchnorm",
        "maxpool-default", "maxpool-ceil", "maxpool-floor", "maxpool-padded", "maxpool-gaps",
        "avgpool-ceil", "avgpool-floor", "avgpool-padded", "avgpool-gaps", "globalpool",
        "lrn", "dropout", "residual", "softmax", "odd",
    ]  # fmt: skip
    for name in layer_types:
        own = {"rates": (0.005,) * 3} if name == "odd" else {}
        yield case(f"layer-{name}", f"networks/{name}.toml", batch=9, draw=DRAWS.get(name, 0), weight_decay=1e-3, **own)

    # The rate drops before the third step: Caffe's and PyTorch's forms part there.
    drop = (0.1, 0.1, 0.01, 0.01)
    optimizers = {
        "sgd-plain": {"momentum": 0.0},
        "sgd-momentum": {},
        "sgd-weight-decay": {"weight_decay": 0.05},
        "sgd-nesterov": {"nesterov": True, "weight_decay": 0.05},
        "caffe-sgd": {"kind": "caffe-sgd", "weight_decay": 0.05},
        "caffe-sgd-nesterov": {"kind": "caffe-sgd", "nesterov": True, "weight_decay": 0.05},
        "adamw": {"kind": "adamw", "weight_decay": 0.1, "rates": (0.01, 0.01, 0.001, 0.001), "epsilon": 1e-4},
        "label-smoothing": {"label_smoothing": 0.1},
        "clip-norm": {"clip_norm": 0.25, "weight_decay": 0.05},
        "mask": {"mask_density": 0.3, "weight_decay": 0.05, "nesterov": True},
        "mask-clip-norm": {"mask_density": 0.3, "clip_norm": 0.25},
        "mask-adamw": {"kind": "adamw", "mask_density": 0.3, "weight_decay": 0.1, "rates": (0.01,) * 4, "epsilon": 1e-4},
        "ema": {"ema_decay": 0.8},
        "mask-ema": {"mask_density": 0.5, "ema_decay": 0.8, "weight_decay": 0.05},
    }  # fmt: skip
    for name, settings in optimizers.items():
        samples = 16 if "mask_density" in settings else 8
        yield case(f"optimizer-{name}", "networks/small.toml", **{"rates": drop, "samples": samples, **settings})
    for kind in ("sgd", "caffe-sgd"):
        yield case(f"optimizer-factors-{kind}", "networks/factors.toml", draw=18, rates=drop, kind=kind, weight_decay=0.05)
    yield case(
        "optimizer-factors-adamw",
        "networks/factors.toml",
        kind="adamw",
        rates=(0.01,) * 4,
        weight_decay=0.1,
        epsilon=1e-4,
    )

    yield case("optimizer-ema-batchnorm", "networks/batchnorm.toml", batch=6, draw=8, ema_decay=0.8)

    yield case("zoo-lenet-300-100", "lenet-300-100", batch=10, rates=(0.02,) * 5, weight_decay=5e-4)
    yield case("zoo-lenet5", "lenet5", draw=55, rates=(0.002,) * 5, weight_decay=5e-4, nesterov=True)
    yield case("zoo-nin-mnist", "nin-mnist", batch=2, draw=72, rates=(0.005,) * 2, weight_decay=5e-4)
    yield case("zoo-nin-cifar10", "nin-cifar10", batch=1, draw=98, rates=(0.002,) * 2, weight_decay=1e-4)
    yield case("zoo-nin-cifar100", "nin-cifar100", batch=1, draw=26, rates=(0.002,) * 2, kind="caffe-sgd", weight_decay=1e-4)
    yield case("zoo-resnet20", "resnet20", batch=2, draw=33, rates=(0.005,) * 3, weight_decay=5e-4, samples=3)
    yield case("zoo-nin-cifar10-bn", "nin-cifar10-bn", batch=1, draw=71, rates=(0.005,) * 2, weight_decay=5e-4, samples=3)
    yield case("zoo-wrn-22-2", "wrn-22-2", batch=2, draw=26, rates=(0.005,) * 2, weight_decay=5e-4, samples=3)
    yield case("zoo-vgg11-cifar", "vgg11-cifar", batch=2, draw=55, rates=(0.005,) * 2, weight_decay=5e-4, samples=3)
    yield case("zoo-alexnet", "alexnet", batch=1, draw=7, rates=(0.01,), kind="caffe-sgd", weight_decay=5e-4)
    yield case("zoo-caffenet", "caffenet", batch=1, draw=8, rates=(0.01,), kind="caffe-sgd", weight_decay=5e-4)
    yield case("zoo-nin-imagenet", "nin-imagenet", batch=1, draw=28, rates=(0.01,), weight_decay=5e-4)


# Training.


class CaffeSgd:
    """Caffe's SGD: the learning rate is inside the velocity."""

    def __init__(self, groups, momentum, nesterov):
        self.param_groups, self.momentum, self.nesterov, self.state = groups, momentum, nesterov, {}

    def step(self):
        for group in self.param_groups:
            (weight,) = group["params"]
            before = self.state.get(weight, {"momentum_buffer": torch.zeros_like(weight)})["momentum_buffer"]
            velocity = self.momentum * before + group["lr"] * (weight.grad + group["weight_decay"] * weight)
            step = (1 + self.momentum) * velocity - self.momentum * before if self.nesterov else velocity
            weight.sub_(step)
            self.state[weight] = {"momentum_buffer": velocity}


def make_optimizer(network, settings):
    constants = settings["optimizer"]
    groups = [
        {"params": [tensor], "lr": 0.0, "weight_decay": constants["weight_decay"] * network.decay[name], "name": name}
        for name, tensor in network.named().items()
        if tensor.requires_grad
    ]
    if constants["kind"] == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=constants["momentum"], nesterov=constants["nesterov"])
    if constants["kind"] == "caffe-sgd":
        return CaffeSgd(groups, constants["momentum"], constants["nesterov"])
    return torch.optim.AdamW(groups, betas=(constants["beta1"], constants["beta2"]), eps=constants["epsilon"])


def input_name(settings, step):
    return f"input.{settings['draw']}.{step}"


def labels_name(settings, step):
    return f"labels.{settings['draw']}.{step}"


def network_of(settings):
    name = settings["network"]
    return load(FIXTURES / name if name.endswith(".toml") else name, dropout=False)


def starting_values(network, name, tensor, settings):
    """The generated tensor as float32, mask applied."""
    start = values(name, tensor.numel(), *scale_and_offset(network, name))
    kept = mask_of(network, name, tensor, settings)
    return (start if kept is None else start * kept).reshape(tensor.shape)


def mask_of(network, name, tensor, settings):
    density = settings["mask_density"]
    if density is None or not thresholded(network, name):
        return None
    return values(f"{name}.mask", tensor.numel(), 1.0) < np.float32(2 * density - 1)


def watch_margins(network, margins):
    """Appends to `margins` how close each ReLU and max pool comes to another branch, at every call in training mode."""

    def relative(distances, x):
        # Exact zeros are no risk: units that are off for every engine, windows of zeros after a ReLU.
        distances = distances[distances > 0]
        return (distances.min() / x.square().mean().sqrt()).item() if distances.numel() else math.inf

    def relu(module, inputs):
        (x,) = inputs
        if module.training:
            margins.append(relative(x.detach().abs(), x.detach()))

    def pool(module, inputs, output):
        x = inputs[0].detach()
        if module.training:
            size = [(o - 1) * s + k for o, s, k in zip(output.shape[2:], module.stride, module.kernel)]
            (top, left), (height, width) = module.padding, x.shape[2:]
            bottom, right = max(0, size[0] - height - top), max(0, size[1] - width - left)
            padded = F.pad(x, (left, right, top, bottom), value=-1e30)
            windows = F.unfold(padded, module.kernel, stride=module.stride)
            windows = windows.reshape(len(x), x.shape[1], math.prod(module.kernel), -1)
            best = windows.topk(2, dim=2).values
            margins.append(relative(best[:, :, 0] - best[:, :, 1], x))

    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(relu)
        elif type(module) is MaxPool:
            module.register_forward_hook(pool)


def train(settings, dtype, path, margins=None, enough=0.0):
    """Runs a case; returns plain float64 arrays by name, or None as soon as a margin is below `enough`."""
    torch.backends.mkldnn.enabled = path != "plain"
    network = network_of(settings)
    layout = torch.channels_last if path == "channels_last" else torch.contiguous_format
    start, masks = {}, {}
    with torch.no_grad():
        for name, tensor in network.named().items():
            start[name] = starting_values(network, name, tensor, settings)
            tensor.copy_(torch.from_numpy(start[name]))
            mask = mask_of(network, name, tensor, settings)
            if mask is not None:
                masks[name] = torch.from_numpy(mask.reshape(tensor.shape))
    network = network.to(dtype=dtype, memory_format=layout).train()
    if margins is not None:
        watch_margins(network, margins)
    named = network.named()
    trainable = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    optimizer = make_optimizer(network, settings)
    average = {n: t.detach().clone() for n, t in named.items()} if settings["ema_decay"] is not None else None
    result = {"loss": [], "gradient_norm": [], "gradient": {}, "change": {}, "average": {}}

    def batch(step):
        shape = (settings["batch"], *network.input)
        images = torch.from_numpy(values(input_name(settings, step), math.prod(shape), 1.0).reshape(shape))
        return images.to(dtype=dtype, memory_format=layout)

    def evaluate():
        with torch.no_grad():
            logits = array(network.eval()(batch(0)))
        network.train()
        return logits

    result["logits_before"] = evaluate()
    for step, rate in enumerate(settings["learning_rates"]):
        target = torch.from_numpy(labels(labels_name(settings, step), settings["batch"], network.classes))
        logits = network(batch(step))
        if margins and min(margins) < enough:
            return None
        loss = F.cross_entropy(logits, target, label_smoothing=settings["label_smoothing"])
        for tensor in trainable.values():
            tensor.grad = None
        loss.backward()
        if step == 0:
            result["gradient"] = {name: array(tensor.grad) for name, tensor in trainable.items()}
        with torch.no_grad():
            for name, mask in masks.items():
                trainable[name].grad.mul_(mask)
            bound = math.inf if settings["clip_norm"] is None else settings["clip_norm"]
            norm = math.sqrt(sum(tensor.grad.double().square().sum().item() for tensor in trainable.values()))
            nn.utils.clip_grad_norm_(trainable.values(), bound)
            for group in optimizer.param_groups:
                group["lr"] = rate * network.lr[group["name"]]
            optimizer.step()
            for name, mask in masks.items():
                trainable[name].mul_(mask)
                for slot in optimizer.state[trainable[name]].values():
                    if slot.shape == mask.shape:
                        slot.mul_(mask)
            if average is not None:
                for name, tensor in named.items():
                    average[name].lerp_(tensor, 1 - settings["ema_decay"])
        result["loss"].append(loss.item())
        result["gradient_norm"].append(norm)

    result["logits_after"] = evaluate()
    for name, tensor in named.items():
        result["change"][name] = array(tensor) - start[name]
        if average is not None:
            result["average"][name] = array(average[name]) - start[name]
    return result


def array(tensor):
    return tensor.detach().to(torch.float64).contiguous().numpy().copy()


# Writing.


def round_to(x, digits):
    return float(f"{x:.{digits}g}")


def summary(name, exact, others, samples):
    """What is stored of a tensor; `others` are float32's versions of it."""
    flat = exact.reshape(-1)
    differences = [other.reshape(-1) - flat for other in others]
    picked = flat[sample_indices(name, flat.size, samples)]
    return {
        "norm": round_to(np.linalg.norm(flat), 8),
        "sum": round_to(flat.sum(), 8),
        "samples": [round_to(x, 8) for x in picked],
        "deviations": [
            round_to(max(measure(d) for d in differences), 2)
            for measure in (lambda d: np.abs(d).max(), np.linalg.norm, lambda d: abs(d.sum()))
        ],
    }


def series(exact, others):
    exact = np.asarray(exact)
    return {
        "values": [round_to(x, 8) for x in exact],
        "deviation": round_to(max(np.abs(np.asarray(other) - exact).max() for other in others), 2),
    }


def describe(network, name, tensor):
    scale, offset = scale_and_offset(network, name)
    return {
        "name": name,
        "shape": list(tensor.shape),
        "scale": scale,
        "offset": offset,
        "check": [float(str(x)) for x in values(name, min(CHECKED, tensor.numel()), scale, offset)],
    }


def fixture(settings):
    margins = []
    exact = train(settings, torch.float64, "plain", margins)
    others = [train(settings, torch.float32, path) for path in FLOAT32_PATHS]
    network = network_of(settings)
    samples = settings["samples"]

    def of(what, name):
        return summary(name, exact[what][name], [other[what][name] for other in others], samples)

    def first(what, keep=40):
        return series(exact[what].reshape(-1)[:keep], [other[what].reshape(-1)[:keep] for other in others])

    record = dict(settings, classes=network.classes)
    # A network without ReLU and max pool has no other branch to take.
    record["margin"] = round_to(min(margins), 2) if margins and min(margins) < math.inf else None
    record["input_check"] = [float(str(x)) for x in values(input_name(settings, 0), 6, 1.0)]
    record["labels_check"] = [int(x) for x in labels(labels_name(settings, 0), settings["batch"], network.classes)]
    record["loss"] = series(exact["loss"], [other["loss"] for other in others])
    record["gradient_norm"] = series(exact["gradient_norm"], [other["gradient_norm"] for other in others])
    record["logits_before"] = first("logits_before")
    record["logits_after"] = first("logits_after")
    record["parameters"] = []
    for name, tensor in network.named().items():
        entry = describe(network, name, tensor)
        entry["gradient"] = of("gradient", name) if tensor.requires_grad else None
        entry["change"] = of("change", name)
        entry["average"] = of("average", name) if exact["average"] else None
        record["parameters"].append(entry)
    return record


def write(record, path):
    """One line for each key and for each tensor, so that a change of the file can be read."""
    lines = []
    for name, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f"{json.dumps(name)}: [\n{rows}\n]")
        else:
            lines.append(f"{json.dumps(name)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def worst(record, what):
    """The largest deviation relative to the size of what deviates."""
    summaries = [entry[what] for entry in record["parameters"] if entry[what]]
    return max(data["deviations"][1] / max(data["norm"], 1e-30) for data in summaries)


# Checking that the stored deviations are fair to an engine that sums in another order.


def image_by_image(settings):
    """Gradients of step 0 in float32, one image at a time: every sum over the batch is made in another order."""
    network = network_of(settings)
    if any(isinstance(module, BatchNorm) for module in network.modules()):
        return None
    gradients = {}
    with torch.no_grad():
        for name, tensor in network.named().items():
            tensor.copy_(torch.from_numpy(starting_values(network, name, tensor, settings)))
    shape = (settings["batch"], *network.input)
    images = torch.from_numpy(values(input_name(settings, 0), math.prod(shape), 1.0).reshape(shape))
    target = torch.from_numpy(labels(labels_name(settings, 0), settings["batch"], network.classes))
    for image in range(settings["batch"]):
        logits = network(images[image : image + 1])
        loss = F.cross_entropy(logits, target[image : image + 1], label_smoothing=settings["label_smoothing"])
        (loss / settings["batch"]).backward()
    for name, tensor in network.named_parameters():
        gradients[name.removeprefix("layers.")] = array(tensor.grad)
    return gradients


def check(settings, path):
    """The largest ratio of an error of `image_by_image` to the stored deviation."""
    record = json.loads(path.read_text())
    gradients = image_by_image(settings)
    if gradients is None:
        return None
    ratios = []
    for entry in record["parameters"]:
        name, data = entry["name"], entry["gradient"]
        if data is None:
            continue
        flat = gradients[name].reshape(-1)
        picked = flat[sample_indices(name, flat.size, settings["samples"])]
        largest, norm, total = data["deviations"]
        rounding = 2e-7 * data["norm"]
        ratios.append((np.abs(picked - data["samples"]).max() / (largest + rounding / math.sqrt(flat.size)), name))
        ratios.append((abs(np.linalg.norm(flat) - data["norm"]) / (norm + rounding), name))
        ratios.append((abs(flat.sum() - data["sum"]) / (total + norm + rounding), name))
    return max(ratios)


def search(settings, draws):
    """The draw with the largest margin among the first `draws`, and that margin."""
    best, found = 0.0, None
    for draw in range(draws):
        margins = []
        if train(dict(settings, draw=draw), torch.float64, "plain", margins, enough=best):
            best, found = min(margins, default=math.inf), draw
    return found, best


def check_average_pool():
    """PyTorch's average pool in ceil mode without padding is Caffe's: divided by the window clipped at the edge."""
    generator = torch.Generator().manual_seed(0)
    for size, kernel, stride in [(32, 3, 2), (16, 3, 2), (8, 3, 2), (7, 3, 2), (9, 2, 2), (10, 4, 3), (6, 2, 3)]:
        x = torch.rand(1, 1, size, size, generator=generator, dtype=torch.float64)
        out = -(-(size - kernel) // stride) + 1
        if (out - 1) * stride >= size:
            out -= 1
        expected = torch.empty(out, out, dtype=torch.float64)
        for i in range(out):
            for j in range(out):
                top, left = i * stride, j * stride
                bottom, right = min(top + kernel, size), min(left + kernel, size)
                expected[i, j] = x[0, 0, top:bottom, left:right].sum() / ((bottom - top) * (right - left))
        got = F.avg_pool2d(x, kernel, stride, ceil_mode=True, count_include_pad=False)[0, 0]
        torch.testing.assert_close(got, expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="?", default="", help="only cases whose name contains this")
    parser.add_argument("--check", action="store_true", help="compare another float32 path with the stored files")
    parser.add_argument("--search", type=int, metavar="N", help="find the best of N draws, write nothing")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    check_average_pool()
    chosen = [settings for settings in cases() if arguments.only in settings["name"]]
    if not chosen:
        sys.exit(f"no case has {arguments.only!r} in its name")
    for settings in chosen:
        path = FIXTURES / f"{settings['name']}.json"
        if arguments.search:
            print(settings["name"], "draw {} has margin {:.1e}".format(*search(settings, arguments.search)), flush=True)
            continue
        if arguments.check:
            found = check(settings, path)
            print(settings["name"], "–" if found is None else f"{found[0]:.2f} × the stored deviation, {found[1]}", flush=True)
            continue
        record = fixture(settings)
        write(record, path)
        size = path.stat().st_size / 1000
        losses = " ".join(f"{x:.4f}" for x in record["loss"]["values"])
        margin = record["margin"] or math.inf
        off = f"gradient {worst(record, 'gradient'):.0e} change {worst(record, 'change'):.0e}"
        print(f"{settings['name']:28} {size:5.1f} kB  margin {margin:.1e}  float32 off by {off}  loss {losses}", flush=True)


if __name__ == "__main__":
    main()
