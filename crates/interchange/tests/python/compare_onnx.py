"""Runs every model of a folder through ONNX's checker and ONNX Runtime.

    compare_onnx.py FOLDER      # X.onnx beside X.safetensors, which holds `input` and the `expected` output

Fails where an output differs by more than 1e-5 of the largest expected one.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

LARGEST = 1e-5

worst, count = 0.0, 0
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    onnx.checker.check_model(str(path), full_check=True)
    data = load_file(path.with_suffix(".safetensors"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": data["input"]})
    expected = data["expected"]
    assert output.shape == expected.shape, (path.name, output.shape, expected.shape)
    assert np.isfinite(output).all() and expected.std() > 0, path.name
    error = np.abs(output.astype(np.float64) - expected).max() / np.abs(expected).max()
    print(f"{path.stem}: {error:.1e}")
    assert error <= LARGEST, f"{path.name} differs by {error}"
    worst, count = max(worst, error), count + 1
assert count > 0, "no models"
print(f"{count} models, largest relative difference {worst:.1e}")
