"""Counts the pictures of an IDX set that a model with preprocessing puts into the wrong class.

    count_errors.py MODEL IMAGES LABELS
"""

import gzip
import struct
import sys

import numpy as np
import onnxruntime


def values(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        data = file.read()
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


pictures, labels = (values(path) for path in sys.argv[2:])
session = onnxruntime.InferenceSession(sys.argv[1])
wrong = 0
for start in range(0, len(labels), 500):
    batch = pictures[start : start + 500, None].astype(np.float32)
    (logits,) = session.run(None, {"input": batch})
    wrong += int((logits.argmax(1) != labels[start : start + 500]).sum())
print(f"wrong {wrong}")
