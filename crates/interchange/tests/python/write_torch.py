"""Writes weights as PyTorch writes them, in every way that is read, each beside what must be read.

    write_torch.py FOLDER      # X.pt or X.onnx, and X.safetensors with the tensors as float32
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

folder = Path(sys.argv[1])
torch.manual_seed(0)


def module():
    layers = OrderedDict(
        conv1=nn.Conv2d(2, 4, 3, bias=False),
        bn1=nn.BatchNorm2d(4),
        flatten=nn.Flatten(),
        fc=nn.Linear(16, 3),
    )
    network = nn.Sequential(layers)
    with torch.no_grad():
        for tensor in (network.bn1.running_mean, network.bn1.running_var, network.bn1.weight, network.bn1.bias):
            tensor.copy_(torch.rand_like(tensor))
        network.fc.weight[0, :3] = torch.tensor([0.0, -0.0, 1e-40])
    return network.eval()


def expected(name, state):
    floats = {key: value.detach().float().contiguous().clone() for key, value in state.items() if value.is_floating_point()}
    save_file(floats, folder / f"{name}.safetensors")


network = module()
state = network.state_dict()
for name, saved in {
    "state": state,
    "plain-dict": dict(state),
    "parameters": {key: nn.Parameter(value) for key, value in state.items() if value.is_floating_point()},
    "checkpoint": {
        "epoch": 3,
        "loss": 0.25,
        "state_dict": state,
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9).state_dict(),
    },
    "checkpoint-best": {"epoch": 4, "best_acc1": torch.tensor(71.5), "state_dict": state},
}.items():
    torch.save(saved, folder / f"{name}.pt")
    torch.save(saved, folder / f"{name}-old.pt", _use_new_zipfile_serialization=False)
    expected(name, state)
    expected(f"{name}-old", state)

torch.save(state, folder / "protocol-4.pt", pickle_protocol=4)
expected("protocol-4", state)
for dtype in (torch.float16, torch.bfloat16):
    half = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    name = str(dtype).removeprefix("torch.")
    torch.save(half, folder / f"{name}.pt")
    expected(name, half)

flat = torch.randn(60)
views = {
    "transposed": flat[:12].view(3, 4).t(),
    "strided": flat[12:36].view(4, 6)[::2, 1::2],
    "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "expanded": flat[50:51].expand(2, 2),
    "scalar": flat[59],
    "empty": torch.zeros(0, 3),
    "größe": flat[36:40],
}
torch.save(views, folder / "views.pt")
torch.save(views, folder / "views-old.pt", _use_new_zipfile_serialization=False)
expected("views", views)
expected("views-old", views)
