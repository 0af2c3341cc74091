"""Writes ONNX models as PyTorch's exporters write them, and the weights that are in them.

    write_onnx.py FOLDER      # needs torch, onnx, onnxscript and safetensors
"""

import sys
from collections import OrderedDict
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from torch import nn

folder = Path(sys.argv[1])
torch.manual_seed(0)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3)
        # Square, so that only how it is multiplied by tells rows from columns.
        self.fc1, self.fc2 = nn.Linear(16, 16), nn.Linear(16, 3)
        with torch.no_grad():
            # Equal tensors, which one exporter stores once.
            self.fc1.bias.zero_()
            self.fc1.bias[:4] = self.conv1.bias

    def forward(self, x):
        return self.fc2(self.fc1(self.conv1(x).relu().flatten(1)).relu())


network = Network().eval()
images = torch.zeros(1, 2, 4, 4)
torch.onnx.export(network, (images,), folder / "onnx-torchscript.onnx", dynamo=False)
torch.onnx.export(network, (images,), folder / "onnx-dynamo.onnx", dynamo=True, external_data=True)
model = onnx.load(folder / "onnx-dynamo.onnx", load_external_data=False)
for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer, model.graph, model):
    # Where the exporter's sources lie on the machine that runs this.
    del item.metadata_props[:]
(folder / "onnx-dynamo.onnx").write_bytes(model.SerializeToString())

# Multiplications by [in, out] matrices, as other frameworks write them.
model = onnx.load(folder / "onnx-torchscript.onnx")
for node in model.graph.node:
    if node.op_type == "Gemm":
        del node.attribute[:]
        (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[1]]
        values = onnx.numpy_helper.to_array(weight).T.copy()
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
onnx.checker.check_model(model)
onnx.save(model, folder / "onnx-turned.onnx")
save_file(OrderedDict(network.state_dict()), folder / "onnx.safetensors")
