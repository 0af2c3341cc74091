"""Loads exported weights into PyTorch modules and compares the modules with the exported ONNX models.

    load_state_dicts.py FOLDER      # X.toml, X.safetensors (the state dict), X.onnx

Fails where a name or shape does not match, or where outputs differ by more than 1e-5 of the largest.
"""

import sys
from pathlib import Path

import onnxruntime
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "scripts"))
from torch_network import load  # noqa: E402

torch.manual_seed(0)
torch.set_num_threads(1)
count = 0
for path in sorted(Path(sys.argv[1]).glob("*.toml")):
    network = load(path)
    network.layers.load_state_dict(load_file(path.with_suffix(".safetensors")), strict=True)
    network.eval()
    images = torch.randn(2, *network.input)
    with torch.no_grad():
        expected = network(images)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession(str(path.with_suffix(".onnx")), options, providers=["CPUExecutionProvider"])
    (output,) = model.run(None, {"input": images.numpy()})
    error = ((torch.from_numpy(output) - expected).abs().max() / expected.abs().max()).item()
    print(f"{path.stem}: {error:.1e}")
    assert error <= 1e-5, f"{path.name} differs by {error}"
    count += 1
assert count > 0, "no networks"
