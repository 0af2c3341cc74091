"""Writes the hostile files of corpus/model: python hostile.py. Each is a good file but for one thing, which its name says."""

import json
import struct
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus" / "model"
NETWORK = {
    "name": "n",
    "input": [1, 1, 20],
    "layers": [{"name": "flat", "type": "flatten"}, {"name": "fc", "type": "linear", "out": 2}],
}
# Which of the 2 x 20 weights are kept in every file: 3, 9 and 25.
KEPT = [3, 9, 25]


def i64(*numbers):
    return struct.pack(f"<{len(numbers)}q", *numbers)


def f32(*numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


def bitmask(*kept):
    rows = [bytearray(3), bytearray(3)]
    for index in kept:
        rows[index // 20][index % 20 // 8] |= 1 << index % 20 % 8
    return bytes(rows[0] + rows[1])


def parts(index="bitmask", **changed):
    """The parts of a good file; a part given as None is left out."""
    of_index = {
        "bitmask": {
            "fc.weight.bitmask": ("U8", [2, 3], bitmask(*KEPT)),
            "fc.weight.row_offsets": ("I64", [2], i64(0, 2)),
            "fc.weight.shape": ("I64", [2], i64(2, 20)),
        },
        "gaps": {
            "fc.weight.gaps": ("U8", [3], bytes([3, 5, 5])),
            "fc.weight.row_offsets": ("I64", [2], i64(0, 2)),
        },
        "none": {},
    }[index]
    result = {
        "fc.bias": ("F32", [2], f32(0.5, -0.5)),
        "fc.weight.compressed": ("F32", [3], f32(1, 2, 3)),
        **of_index,
    }
    for name, part in changed.items():
        whole = name.replace("__", ".")
        if part is None:
            del result[whole]
        else:
            result[whole] = part
    return result


def text(**changed):
    result = {
        "format": "skinny",
        "version": "1",
        "network": json.dumps(NETWORK),
        "preprocess": "{}",
        "shapes": '{"fc.weight":[2,20]}',
    }
    result.update(changed)
    return {key: value for key, value in result.items() if value is not None}


def file(tensors, metadata=None, offsets=None, extra=b"", header_length=None):
    """A safetensors file; offsets of single tensors can be given."""
    header, data = {"__metadata__": metadata or text()}, b""
    for name, (dtype, shape, content) in tensors.items():
        span = [len(data), len(data) + len(content)]
        data += content
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (offsets or {}).get(name, span)}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", header_length if header_length is not None else len(head)) + head + data + extra


def rice_bits(parameter, *gaps):
    bits = []
    for gap in gaps:
        bits += [1] * (gap >> parameter) + [0] + [gap >> place & 1 for place in range(parameter)]
    bits += [1] * (-len(bits) % 8)
    return bytes([parameter]) + bytes(sum(bit << place for place, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))


def rice(content):
    return {**parts("none"), "fc.weight.rice": ("U8", [len(content)], content)}


def mask(content):
    return {**parts("none"), "fc.weight.mask": ("U8", [len(content)], content)}


def values(**tensors):
    base = parts(fc__weight__compressed=None)
    return {**base, **{f"fc.weight.{name}": part for name, part in tensors.items()}}


def network(**changed):
    return json.dumps({**NETWORK, **changed})


def wide(out):
    layers = [{"name": "flat", "type": "flatten"}, {"name": "fc", "type": "linear", "out": out, "bias": False}]
    return {"network": network(input=[1, 1, 200], layers=layers), "shapes": json.dumps({"fc.weight": [out, 200]})}


GOOD = {
    "good-bitmask": file(parts()),
    "good-gaps": file(parts("gaps")),
    "good-rice": file(rice(rice_bits(2, 3, 5, 15))),
    "good-codes": file(values(codes=("U8", [2], bytes([0x10, 0x02])), codebook=("F32", [3], f32(1, 2, 3)))),
    "good-int8": file(values(compressed=("I8", [3], bytes([1, 255, 3])), scale=("F32", [2], f32(1, 2)))),
    "good-dense": file({"fc.bias": ("F16", [2], bytes(4)), "fc.weight": ("F32", [2, 20], bytes(160))}),
}
HOSTILE = {
    "empty": b"",
    "seven-bytes": bytes(7),
    "header-longer-than-file": file(parts(), header_length=1 << 40),
    "header-length-overflows": file(parts(), header_length=(1 << 64) - 1),
    "header-cut": file(parts())[:100],
    "header-is-no-json": struct.pack("<Q", 8) + b"not json",
    "header-nested": struct.pack("<Q", 10_000) + b"[" * 10_000,
    "data-cut": file(parts())[:-1],
    "data-longer": file(parts(), extra=b"x"),
    "offsets-overlap": file(parts(), offsets={"fc.weight.compressed": [4, 16]}),
    "offsets-with-hole": file(parts(), offsets={"fc.weight.compressed": [12, 24]}),
    "offsets-overflow": file(parts(), offsets={"fc.bias": [0, (1 << 64) - 1]}),
    "offsets-backwards": file(parts(), offsets={"fc.bias": [8, 0]}),
    "shape-overflows": file(parts(fc__bias=("F32", [1 << 62, 1 << 62], f32(0, 0)))),
    "metadata-is-no-text": file(parts(), metadata={"format": ["skinny"]}),
    "format-missing": file(parts(), metadata=text(format=None)),
    "format-other": file(parts(), metadata=text(format="pt")),
    "version-missing": file(parts(), metadata=text(version=None)),
    "version-newer": file(parts(), metadata=text(version="2")),
    "version-no-number": file(parts(), metadata=text(version="one\n")),
    "network-missing": file(parts(), metadata=text(network=None)),
    "network-no-json": file(parts(), metadata=text(network="name")),
    "network-nested": file(parts(), metadata=text(network="[" * 5000)),
    "network-without-layers": file(parts(), metadata=text(network=network(layers=[]))),
    "network-huge": file(parts(), metadata=text(**wide(1 << 28))),
    "network-sizes-overflow": file(parts(), metadata=text(**wide(1 << 62))),
    "preprocess-no-json": file(parts(), metadata=text(preprocess="[]")),
    "preprocess-divides-by-zero": file(parts(), metadata=text(preprocess='{"std":[0]}')),
    "preprocess-crop-is-not-the-input": file(parts(), metadata=text(preprocess='{"crop":[9999999,9999999]}')),
    "zca-without-tensors": file(parts(), metadata=text(preprocess='{"zca":{}}')),
    "zca-of-another-size": file(
        {**parts(), "preprocess.zca.mean": ("F32", [2], f32(0, 0)), "preprocess.zca.matrix": ("F32", [2, 2], f32(1, 0, 0, 1))},
        metadata=text(preprocess='{"zca":{}}'),
    ),
    "shapes-missing": file(parts(), metadata=text(shapes=None)),
    "shapes-other": file(parts(), metadata=text(shapes='{"fc.weight":[20,2]}')),
    "shapes-too-many": file(parts(), metadata=text(shapes='{"fc.weight":[2,20],"x.weight":[1]}')),
    "bias-missing": file(parts(fc__bias=None)),
    "bias-of-another-shape": file(parts(fc__bias=("F32", [1], f32(0)))),
    "bias-of-another-type": file(parts(fc__bias=("I32", [2], bytes(8)))),
    "tensor-of-nobody": file(parts(other=("U8", [1], b"x"))),
    "weight-missing": file({"fc.bias": ("F32", [2], f32(0, 0))}),
    "weight-twice": file(parts(fc__weight=("F32", [2, 20], bytes(160)))),
    "index-twice": file({**parts(), "fc.weight.rice": ("U8", [3], rice_bits(2, 3, 5, 15))}),
    "values-missing": file(parts(fc__weight__compressed=None)),
    "values-fewer-than-kept": file(parts(fc__weight__compressed=("F32", [2], f32(1, 2)))),
    "values-more-than-kept": file(parts(fc__weight__compressed=("F32", [4], f32(1, 2, 3, 4)))),
    "values-of-another-type": file(parts(fc__weight__compressed=("I64", [3], bytes(24)))),
    "bitmask-keeps-more": file(parts(fc__weight__bitmask=("U8", [2, 3], bitmask(3, 9, 25, 26)))),
    "bitmask-beyond-row": file(parts(fc__weight__bitmask=("U8", [2, 3], bytes([8, 2, 16, 32, 0, 0])))),
    "bitmask-of-another-shape": file(parts(fc__weight__bitmask=("U8", [6], bitmask(*KEPT)))),
    "bitmask-offsets-missing": file(parts(fc__weight__row_offsets=None)),
    "bitmask-offsets-wrong": file(parts(fc__weight__row_offsets=("I64", [2], i64(0, 1)))),
    "bitmask-offsets-negative": file(parts(fc__weight__row_offsets=("I64", [2], i64(-1, 2)))),
    "bitmask-shape-missing": file(parts(fc__weight__shape=None)),
    "bitmask-shape-other": file(parts(fc__weight__shape=("I64", [2], i64(20, 2)))),
    "gaps-beyond-row": file(parts("gaps", fc__weight__gaps=("U8", [3], bytes([3, 16, 5])))),
    "gaps-of-another-type": file(parts("gaps", fc__weight__gaps=("I16", [3], bytes(6)))),
    "gaps-pass-over-too-much": file(parts("gaps", fc__weight__gaps=("U8", [3], bytes([3, 5, 255])))),
    "gaps-offsets-beyond": file(parts("gaps", fc__weight__row_offsets=("I64", [2], i64(0, 4)))),
    "gaps-offsets-negative": file(parts("gaps", fc__weight__row_offsets=("I64", [2], i64(0, -1)))),
    "gaps-offsets-start-late": file(parts("gaps", fc__weight__row_offsets=("I64", [2], i64(1, 2)))),
    "rice-empty": file(rice(b"")),
    "rice-parameter": file(rice(bytes([200, 1, 2, 3]))),
    "rice-keeps-fewer": file(rice(rice_bits(2, 3, 5))),
    "rice-beyond-last": file(rice(rice_bits(2, 3, 5, 31))),
    "rice-gap-overflows": file(rice(bytes([31]) + b"\xff" * 40 + bytes(8))),
    "rice-cut-in-a-gap": file(rice(rice_bits(9, 3, 5, 15)[:-1])),
    "rice-ones-without-end": file(rice(bytes([0]) + b"\xff" * 1000)),
    "mask-empty": file(mask(b"")),
    "mask-cut": file(mask(bytes(10))),
    "mask-form": file(mask(bytes([7]) + bytes(20))),
    "mask-state-never-ends-well": file(mask(bytes([1, 0, 8]) + b"\x5a" * 24)),
    "codes-beyond-codebook": file(values(codes=("U8", [2], bytes([0x10, 0x03])), codebook=("F32", [3], f32(1, 2, 3)))),
    "codes-of-another-length": file(values(codes=("U8", [3], bytes(3)), codebook=("F32", [3], f32(1, 2, 3)))),
    "codes-without-codebook": file(values(codes=("U8", [2], bytes(2)))),
    "codebook-empty": file(values(codes=("U8", [2], bytes(2)), codebook=("F32", [0], b""))),
    "codebook-too-long": file(values(codes=("U8", [3], bytes(3)), codebook=("F32", [257], bytes(4 * 257)))),
    "codebook-of-another-type": file(values(codes=("U8", [2], bytes(2)), codebook=("F16", [3], bytes(6)))),
    "int8-without-scale": file(values(compressed=("I8", [3], bytes(3)))),
    "int8-scale-of-another-length": file(values(compressed=("I8", [3], bytes(3)), scale=("F32", [3], bytes(12)))),
    "scale-without-int8": file(parts(fc__weight__scale=("F32", [2], bytes(8)))),
    "coded-empty": file(values(coded=("U8", [0], b""))),
    "coded-bits": file(values(coded=("U8", [20], bytes([7]) + bytes(19)))),
    "coded-cut": file(values(coded=("U8", [9], bytes([32]) + bytes(8)))),
    "coded-state-never-ends-well": file(values(coded=("U8", [40], bytes([32]) + b"\xa5" * 39))),
    "coded-more-than-bytes-can-hold": file(
        {"fc.weight.coded": ("U8", [9], bytes([4]) + struct.pack("<Q", 1 << 32)), "fc.weight.codebook": ("F32", [1], f32(1))},
        metadata=text(**wide(200)),
    ),
    "pickle": b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in {**GOOD, **HOSTILE}.items():
        (FOLDER / name).write_bytes(content)
    print(f"{len(GOOD)} good and {len(HOSTILE)} hostile files in {FOLDER}")
