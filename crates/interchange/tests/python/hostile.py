"""Writes the hostile files of the fuzzing corpus: what no tool writes, and what somebody might.

    hostile.py ../../fuzz/corpus      # needs nothing but Python
"""

import io
import pickle
import struct
import sys
import zipfile
from pathlib import Path

root = Path(sys.argv[1])
MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")


def write(kind, name, data):
    (root / kind / name).write_bytes(data)


# Pickles.


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def numbers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(key="0", count=6, kind="FloatStorage", tag="storage", rest=b""):
    return b"(" + text(tag) + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + integer(count) + rest + b"tQ"


def tensor(place, first=0, shape=(2, 3), strides=(3, 1)):
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + integer(first) + numbers(shape) + numbers(strides) + b"\x89NtR"


def state(**items):
    return b"\x80\x02}(" + b"".join(text(name.replace("_", ".")) + value for name, value in items.items()) + b"u."


def archive(body, storages=((("0"), struct.pack("<6f", *range(6))),), compression=zipfile.ZIP_STORED, prefix="w/", extra=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr(prefix + "data.pkl", body)
        for key, data in storages:
            file.writestr(f"{prefix}data/{key}", data)
        for name, data in extra:
            file.writestr(name, data)
    return buffer.getvalue()


good = state(fc_weight=tensor(storage()))
write("torch", "good", archive(good))
write("torch", "compressed", archive(good, compression=zipfile.ZIP_DEFLATED))
write("torch", "big-endian", archive(good, extra=[("w/byteorder", b"big")]))
write("torch", "two-pickles", archive(good, extra=[("v/data.pkl", good)]))
write("torch", "no-pickle", archive(good, prefix="w"))


class Run:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


import os  # noqa: E402

for protocol in range(6):
    body = pickle.dumps({"fc.weight": Run(os.system, "touch /tmp/skinny-was-here")}, protocol)
    write("torch", f"code-{protocol}", archive(body))
    write("torch", f"code-{protocol}-bare", body)
write("torch", "code-eval", archive(pickle.dumps(Run(eval, "1"), 2)))
write("torch", "code-inst", archive(b"(ios\nsystem\n."))
write("torch", "code-obj", archive(b"(cos\nsystem\n" + text("true") + b"o."))
write("torch", "code-newobj", archive(b"\x80\x02cos\nsystem\n" + text("true") + b"\x85\x81."))
write("torch", "code-stack-global", archive(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."))
write("torch", "code-through-known", archive(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\ncos\nsystem\n" + text("true") + b"\x85RR."))
write("torch", "code-build", archive(b"\x80\x02K\x01}" + text("__class__") + b"Nsb."))
write("torch", "code-extension", archive(b"\x80\x02\x82\x01."))
write("torch", "code-in-metadata", archive(b"\x80\x02ccollections\nOrderedDict\n)R}" + text("_metadata") + b"cos\nsystem\nsb."))

write("torch", "recursive-list", archive(b"\x80\x02]q\x00h\x00a."))
write("torch", "recursive-dict", archive(b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s."))
write("torch", "recursive-tensor", archive(b"\x80\x02}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n]q\x00h\x00a\x85Rs."))
write("torch", "deep", archive(b"\x80\x02" + b"]" * 100 + b"a" * 99 + b"."))
write("torch", "deep-tuples", archive(b"\x80\x02)" + b"\x85\x94" * 200 + b"."))
write("torch", "marks", archive(b"\x80\x02" + b"(" * 500 + b"t" * 499 + b"."))
write("torch", "huge-text", archive(b"\x80\x02\x8d" + b"\xff" * 8 + b"."))
write("torch", "huge-memo", archive(b"\x80\x02Nr\xff\xff\xff\xff."))
write("torch", "huge-long", archive(b"\x80\x02\x8a\xff" + b"\xff" * 255 + b"."))
write("torch", "frame-too-long", archive(b"\x80\x04\x95" + b"\xff" * 8 + b"N."))

far = 2**62
for name, value in {
    "first-negative": tensor(storage(), first=-1),
    "first-far": tensor(storage(), first=far),
    "shape-negative": tensor(storage(), shape=(-2, 3)),
    "shape-huge": tensor(storage(), shape=(far, far)),
    "shape-zero-huge": tensor(storage(), shape=(0, far)),
    "shape-many": tensor(storage(), shape=(1,) * 300, strides=(1,) * 300),
    "strides-fewer": tensor(storage(), strides=(1,)),
    "strides-huge": tensor(storage(), strides=(far, 1)),
    "strides-negative": tensor(storage(), strides=(-3, 1)),
    "expanded": tensor(storage(), shape=(2**15, 2**15), strides=(0, 0)),
    "storage-long": tensor(storage(count=far)),
    "storage-negative": tensor(storage(count=-1)),
    "storage-missing": tensor(storage(key="7")),
    "storage-double": tensor(storage(kind="DoubleStorage", count=3), shape=(3,), strides=(1,)),
    "storage-unknown": tensor(storage(kind="StringStorage")),
    "storage-tag": tensor(storage(tag="module")),
    "storage-view": tensor(storage(rest=b"N")),
    "storage-list": tensor(b"]Q"),
    "storage-tensor": tensor(tensor(storage())),
    "arguments-few": b"ctorch._utils\n_rebuild_tensor_v2\n)R",
}.items():
    write("torch", name, archive(state(fc_weight=value)))
write("torch", "name-bytes", archive(b"\x80\x02}U\x02\xff\xfe" + tensor(storage()) + b"s."))
write("torch", "name-number", archive(b"\x80\x02}K\x01" + tensor(storage()) + b"s."))
write("torch", "name-twice", archive(b"\x80\x02}(" + (text("a") + tensor(storage())) * 3 + b"u."))
write("torch", "many-views", archive(state(**{f"t{i}": tensor(storage()) for i in range(40)})))

# Zip files.
zipped = archive(good)
end = zipped.rindex(b"PK\x05\x06")
central = zipped.index(b"PK\x01\x02")
second = zipped.index(b"PK\x01\x02", central + 1)


def patch(at, data):
    return zipped[:at] + data + zipped[at + len(data) :]


write("torch", "zip-truncated", zipped[:-30])
write("torch", "zip-headless", zipped[: central - 5])
write("torch", "zip-directory-far", patch(end + 16, b"\xf0\xff\xff\xff"))
write("torch", "zip-directory-long", patch(end + 12, b"\xf0\xff\xff\xff"))
write("torch", "zip-many-entries", patch(end + 8, b"\xff\xff\xff\xff"))
write("torch", "zip-overlap", patch(second + 42, b"\0\0\0\0"))
write("torch", "zip-local-far", patch(second + 42, b"\xf0\xff\xff\xff"))
write("torch", "zip-size-far", patch(second + 20, b"\xf0\xff\xff\xff" * 2))
write("torch", "zip-size-64-missing", patch(second + 20, b"\xff\xff\xff\xff" * 2))
write("torch", "zip-name-long", patch(second + 28, b"\xff\xff"))
write("torch", "zip-encrypted", patch(second + 8, b"\x01\x00"))
locator = b"PK\x06\x07" + struct.pack("<IQI", 0, 2**63, 1)
write("torch", "zip-64-far", zipped[:end] + locator + zipped[end:])
write("torch", "zip-64-itself", zipped[:end] + b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1) + zipped[end:])

# The old format.


def old(body, keys=b"]" + text("0") + b"a", tail=struct.pack("<q6f", 6, *range(6)), system=b"}" + text("little_endian") + b"\x88s"):
    return b"\x80\x02" + MAGIC + b".\x80\x02M\xe9\x03.\x80\x02" + system + b"." + body + b"\x80\x02" + keys + b"." + tail


write("torch", "old-good", old(good))
write("torch", "old-big-endian", old(good, system=b"}" + text("little_endian") + b"\x89s"))
write("torch", "old-count-huge", old(good, tail=b"\xff" * 8))
write("torch", "old-count-short", old(good, tail=struct.pack("<q", 6)))
write("torch", "old-key-unknown", old(good, keys=b"]" + text("9") + b"a"))
write("torch", "old-keys-none", old(good, keys=b"N"))
write("torch", "old-truncated", old(good)[:60])
write("torch", "old-code", old(b"\x80\x02cos\nsystem\n" + text("true") + b"\x85R."))
write("torch", "old-no-magic", b"\x80\x02N.")

# ONNX.


def varint(value):
    out = b""
    while True:
        low, value = value & 127, value >> 7
        out += bytes([low | (128 if value else 0)])
        if not value:
            return out


def number(field, value):
    return varint(field << 3) + varint(value % 2**64)


def message(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def initializer(name="w", dims=(2,), kind=1, raw=struct.pack("<2f", 1, 2), more=b""):
    dims = b"".join(number(1, extent) for extent in dims)
    return message(5, dims + number(2, kind) + message(8, name) + (message(9, raw) if raw is not None else b"") + more)


def node(kind, inputs, output="y", more=b""):
    return message(1, b"".join(message(1, name) for name in inputs) + message(2, output) + message(4, kind) + more)


def model(*parts):
    return number(1, 8) + message(7, b"".join(parts))


def external(**entries):
    return b"".join(message(13, message(1, key) + message(2, value)) for key, value in entries.items()) + number(14, 1)


write("onnx", "good", model(node("Conv", "xw"), initializer(dims=(2, 1, 1, 1))))
write("onnx", "transposed", model(node("MatMul", "xw"), initializer(dims=(1, 2))))
write("onnx", "alias", model(node("Identity", "w", "v"), node("Add", "xv"), initializer()))
write("onnx", "alias-of-itself", model(node("Identity", "w", "w"), initializer()))
write("onnx", "aliases", model(*[node("Identity", ["w"], f"v{i}") for i in range(60)], initializer()))
constant = message(5, message(1, "value") + message(5, number(1, 1) + number(2, 1) + message(9, b"\0\0\0\0")))
write("onnx", "constant", model(node("Constant", [], "c", constant)))
write("onnx", "constant-nothing", model(node("Constant", [], "c", message(5, message(1, "value")))))
write("onnx", "both-ways", model(node("Gemm", "xw", "y"), node("Gemm", "xw", "z", message(5, message(1, "transB") + number(3, 1))), initializer(dims=(1, 2))))
for name, part in {
    "dims-huge": initializer(dims=(2**62, 2**62)),
    "dims-negative": initializer(dims=(-1,)),
    "dims-zero-huge": initializer(dims=(0, 2**63 - 1), raw=b""),
    "dims-many": initializer(dims=(1,) * 200),
    "dims-packed-bad": message(5, message(1, b"\xff\xff")),
    "raw-short": initializer(raw=b"\0\0\0"),
    "raw-missing": initializer(raw=None),
    "floats-packed": initializer(raw=None, more=message(4, struct.pack("<2f", 1, 2))),
    "floats-in-pieces": initializer(raw=None, more=b"\x25\0\0\0\0" * 2),
    "floats-as-integers": initializer(raw=None, more=number(4, 3)),
    "half-as-integers": initializer(kind=10, raw=None, more=message(5, varint(0x3C00) + varint(0))),
    "integers-damaged": initializer(kind=10, raw=None, more=message(5, b"\x80")),
    "doubles": initializer(kind=11, raw=b"\0" * 16),
    "kind-unknown": initializer(kind=2**63),
    "name-bytes": message(5, number(1, 1) + number(2, 1) + message(8, b"\xff") + message(9, b"\0\0\0\0")),
    "name-twice": initializer() + initializer(),
    "external": initializer(raw=None, more=external(location="w.bin")),
    "external-above": initializer(raw=None, more=external(location="../../etc/passwd")),
    "external-root": initializer(raw=None, more=external(location="/etc/passwd", offset="0", length="8")),
    "external-numbers": initializer(raw=None, more=external(location="w.bin", offset="-1", length="9" * 40)),
    "empty-tensors": message(5, b"") * 500,
    "groups": b"\x0b" * 50,
}.items():
    write("onnx", name, model(part))
write("onnx", "no-graph", number(1, 8))
write("onnx", "graph-too-long", number(1, 8) + b"\x3a\xff\xff\xff\xff\x0f")
write("onnx", "graph-in-graph", model(message(7, model(message(7, model(initializer()))))))
write("onnx", "varint-endless", b"\x08" + b"\xff" * 40)
write("onnx", "truncated", model(initializer())[:-3])
