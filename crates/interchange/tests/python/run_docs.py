"""Runs the Python of a page of the documentation, block after block, in a folder that has the files it names.

    run_docs.py PAGE FOLDER
"""

import os
import re
import sys
from pathlib import Path

import torch

page = Path(sys.argv[1]).read_text()
os.chdir(sys.argv[2])
blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
assert len(blocks) == 3, len(blocks)
names = {}
exec(blocks[0], names)
network = names["network"]
before = {name: tensor.clone() for name, tensor in network.named_parameters()}
pictures = torch.randn(2, 1, 28, 28)
logits = network(pictures)

exec(blocks[1], names)
# The masks are in force, keep what is not zero, and training leaves dropped weights at zero.
assert torch.equal(network(pictures), logits)
pruned = [name for name, _ in network.named_buffers() if name.endswith("weight_mask")]
assert len(pruned) == 4, pruned
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
for _ in range(2):
    optimizer.zero_grad()
    network(pictures).square().mean().backward()
    optimizer.step()
changed = 0
for layer in (network.conv1, network.conv2, network.fc1, network.fc2):
    mask = layer.weight_mask.bool()
    assert 0 < mask.float().mean() < 1
    assert (layer.weight[~mask] == 0).all()
    torch.nn.utils.prune.remove(layer, "weight")
for name, tensor in network.named_parameters():
    changed += (tensor != before[name]).sum().item()
assert changed > 0

exec(blocks[2], names)
assert names["logits"].shape == (2, 10)
print("the page works")
