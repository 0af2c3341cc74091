"""A network in the TOML format of this project as a PyTorch module.

    from torch_network import load
    network = load("lenet5")              # a name of crates/network/zoo, or the path of a TOML file
    logits = network(images)              # [images, classes]; a final softmax is left out

Parameter names are `layer.weight` / `layer.bias`; `named()` gives them with the running statistics.
"""

import tomllib
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

REPOSITORY = Path(__file__).resolve().parent.parent
ZOO = REPOSITORY / "crates" / "network" / "zoo"


def pair(value):
    """A number or [height, width] as (height, width)."""
    return tuple(value) if isinstance(value, list) else (value, value)


class MaxPool(nn.Module):
    def __init__(self, kernel, stride, padding, ceil):
        super().__init__()
        self.kernel, self.stride, self.padding, self.ceil = kernel, stride, padding, ceil

    def forward(self, x):
        return F.max_pool2d(x, self.kernel, self.stride, self.padding, ceil_mode=self.ceil)


class AveragePool(MaxPool):
    def forward(self, x):
        # A window is divided by the number of its pixels that lie inside the picture.
        return F.avg_pool2d(
            x, self.kernel, self.stride, self.padding, ceil_mode=self.ceil, count_include_pad=False
        )


class GlobalPool(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3), keepdim=True)


class BatchNorm(nn.BatchNorm2d):
    """Accepts [images, channels] too."""

    def _check_input_dim(self, x):
        if x.dim() not in (2, 4):
            raise ValueError(f"batchnorm wants 2 or 4 dimensions, got {list(x.shape)}")


class Add(nn.Module):
    def forward(self, *inputs):
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


class Linear(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1))


def operation(layer, shape, dropout):
    """The module of one layer whose (first) input has `shape` = [channels, height, width] or [features]."""
    kind = layer["type"]
    channels = shape[0]
    if kind == "conv":
        return nn.Conv2d(
            channels,
            layer["out"],
            pair(layer["kernel"]),
            pair(layer.get("stride", 1)),
            pair(layer.get("padding", 0)),
            groups=layer.get("groups", 1),
            bias=layer.get("bias", True),
        )
    if kind == "linear":
        features = 1
        for extent in shape:
            features *= extent
        return Linear(features, layer["out"], bias=layer.get("bias", True))
    if kind == "batchnorm":
        return BatchNorm(channels, layer.get("eps", 1e-5), layer.get("momentum", 0.1))
    if kind in ("maxpool", "avgpool"):
        kernel = pair(layer["kernel"])
        pool = MaxPool if kind == "maxpool" else AveragePool
        stride = pair(layer["stride"]) if "stride" in layer else kernel
        return pool(kernel, stride, pair(layer.get("padding", 0)), layer.get("ceil", True))
    if kind == "lrn":
        # PyTorch's and Caffe's forms agree: x / (k + alpha/size * sum of squares)^beta.
        return nn.LocalResponseNorm(
            layer.get("size", 5), layer.get("alpha", 1e-4), layer.get("beta", 0.75), layer.get("k", 1.0)
        )
    if kind == "dropout":
        return nn.Dropout(layer.get("p", 0.5) if dropout else 0.0)
    simple = {
        "relu": nn.ReLU,
        "globalpool": GlobalPool,
        "flatten": nn.Flatten,
        "add": Add,
        "softmax": lambda: nn.Softmax(dim=1),
    }
    if kind not in simple:
        raise ValueError(f"layer {layer['name']!r}: unknown type {kind!r}")
    return simple[kind]()


class Network(nn.Module):
    """The layers of `description` (the parsed TOML) in file order."""

    def __init__(self, description, dropout=True):
        super().__init__()
        self.name = description["name"]
        self.input = description["input"]
        self.layers = nn.ModuleDict()
        self.sources = {}
        # Factors of learning rate and decay and fan-in by parameter name.
        self.lr, self.decay, self.fan_in = {}, {}, {}
        shapes = {"input": list(self.input)}
        before = "input"
        for layer in description["layers"]:
            name = layer["name"]
            sources = layer.get("inputs", [before])
            module = operation(layer, shapes[sources[0]], dropout)
            with torch.no_grad():
                # Two images, so that BatchNorm in training mode has something to normalize.
                zeros = [torch.zeros(2, *shapes[s]) for s in sources]
                shapes[name] = list(module.eval()(*zeros).shape[1:])
            module.train()
            self.layers[name] = module
            self.sources[name] = sources
            for key, tensor in module.named_parameters():
                parameter = f"{name}.{key}"
                self.lr[parameter] = factor(layer, "lr", key)
                self.decay[parameter] = factor(layer, "decay", key)
                self.fan_in[parameter] = tensor[0].numel() if tensor.dim() > 1 else 1
            before = name
        self.last = before
        self.ends_in_softmax = isinstance(self.layers[before], nn.Softmax)
        self.classes = 1
        for extent in shapes[before]:
            self.classes *= extent

    def forward(self, x):
        values = {"input": x}
        for name, module in self.layers.items():
            if self.ends_in_softmax and name == self.last:
                return values[self.sources[name][0]].flatten(1)
            values[name] = module(*(values[source] for source in self.sources[name]))
        return values[self.last].flatten(1)

    def named(self):
        """Every trainable parameter and running statistic by its name in this project."""
        tensors = dict(self.named_parameters())
        tensors.update(self.named_buffers())
        return {
            name.removeprefix("layers."): tensor
            for name, tensor in tensors.items()
            if not name.endswith("num_batches_tracked")
        }


def factor(layer, which, key):
    """The factor of `layer` for its weight or bias: a table {weight, bias} or one number; 1 if unsaid."""
    given = layer.get(which, 1.0)
    return float(given.get(key, 1.0)) if isinstance(given, dict) else float(given)


def load(name_or_path, dropout=True):
    """A network of the zoo by name, or any TOML file by path. `dropout=False` makes every p zero."""
    path = ZOO / f"{name_or_path}.toml"
    if not path.exists():
        path = Path(name_or_path)
    return Network(tomllib.loads(path.read_text()), dropout)
