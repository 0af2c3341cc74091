"""Reads a .skinny file with the safetensors package alone: python read_skinny.py MODEL.skinny DENSE.safetensors"""
import functools, json, math, sys
import numpy as np
from safetensors import numpy as files, safe_open

STEPS = [(2 << 16) // (2 * seen + 3) for seen in range(1024)]
bits_of = lambda data: np.unpackbits(np.frombuffer(data, "u1"), bitorder="little")
number = lambda bits: bits @ (1 << np.arange(bits.shape[-1]))
coder = lambda data: [int.from_bytes(data[:8], "little"), iter(np.frombuffer(data[8:], "<u4").tolist())]

def learn(chance, bit, limit):
    chance[:] = chance[0] + (((0xFFFFFFFF if bit else 0) - chance[0]) * STEPS[chance[1]] >> 16), chance[1] + (chance[1] < limit)
    return bit

def decode(coder, chance):  # the next bit
    one, (high, low) = max(chance[0] >> 17, 1), divmod(coder[0], 1 << 15)
    coder[0] = one * high + low if low < one else ((1 << 15) - one) * high + low - one
    coder[0] = coder[0] if coder[0] >> 32 else coder[0] << 32 | next(coder[1])
    return learn(chance, low < one, 1023)

def coded_mask(data, rows, columns):
    share, code, kept = int.from_bytes(data[1:3], "little") << 16 | 1 << 15, coder(data[3:]), []
    chances, of_columns = [[share, 16] for _ in range(16)], [[share, 4] for _ in range(columns)]
    level = lambda chance: sum(chance[0] > bound for bound in (share // 2, share, 2 * share + 1))
    for row in ([share, 8] for _ in range(rows)):
        for column in of_columns:
            kept.append(decode(code, chances[4 * level(row) + level(column) if data[0] else 0]))
            learn(row, kept[-1], 60), learn(column, kept[-1], 254)
    return np.array(kept)

def rice_mask(data, size):
    kept, bits, start, place, low = np.zeros(size, bool), bits_of(data[1:]), 0, -1, data[0]
    for zero in np.flatnonzero(bits == 0).tolist():
        if zero >= start:  # it ends a run of ones; other zeros are among the low bits
            place += 1 + (zero - start << low) + number(bits[zero + 1 : zero + 1 + low])
            kept[place], start = True, zero + 1 + low
    return kept

def coded_values(data, count):
    low, kind = {32: (22, "<f4"), 16: (8, "<f2")}.get(data[0], (0, "u1"))
    end, high, leaf = len(data) - (count * low + 7) // 8, data[0] - low, 1 << data[0] - low
    code, chances, rest = coder(data[1:end]), [[1 << 31, 0] for _ in range(leaf)], bits_of(data[end:])[: count * low]
    symbol = lambda: functools.reduce(lambda node, _: 2 * node + decode(code, chances[node]), range(high), 1) - leaf
    values = [symbol() << low | lowest for lowest in number(rest.reshape(count, low)).tolist()]
    return np.array(values, kind.replace("f", "u")).view(kind)

with safe_open(sys.argv[1], "np") as file:
    text, dense, tensors = file.metadata(), {}, files.load_file(sys.argv[1])
assert (text["format"], text["version"]) == ("skinny", "1"), "not a .skinny file of version 1"
for name, shape in json.loads(text["shapes"]).items():
    part = {whole[len(name) + 1 :]: tensors.pop(whole) for whole in [*tensors] if f"{whole}.".startswith(f"{name}.")}
    rows, columns, kept, keeps = shape[0], math.prod(shape[1:]), np.ones(math.prod(shape), bool), slice(None)
    if "bitmask" in part: kept = np.unpackbits(part["bitmask"], axis=1, count=columns, bitorder="little") == 1
    if "rice" in part: kept = rice_mask(part["rice"].tobytes(), rows * columns)
    if "mask" in part: kept = coded_mask(part["mask"].tobytes(), rows, columns)
    if "gaps" in part:
        starts, gaps, kept = part["row_offsets"], part["gaps"].astype(int), np.zeros((rows, columns), bool)
        keeps = gaps < np.iinfo(part["gaps"].dtype).max
        for row, a, b in zip(kept, starts, [*starts[1:], len(gaps)]): row[(np.cumsum((gaps + keeps)[a:b]) - 1)[keeps[a:b]]] = True
    count = len(part["gaps"]) if "gaps" in part else int(kept.sum())
    values = coded_values(part["coded"].tobytes(), count) if "coded" in part else part.get("compressed", part.get("codes", part.get(""))).ravel()
    if "codes" in part and len(part["codebook"]) <= 16: values = np.stack([values & 15, values >> 4], 1).ravel()[:count]
    if "codebook" in part: values = part["codebook"][values]
    if "scale" in part: values = values.view("i1") * np.repeat(part["scale"], np.diff([*part["row_offsets"], count]) if "gaps" in part else kept.reshape(rows, -1).sum(1))
    dense[name] = np.zeros(shape, np.float32)
    dense[name][kept.reshape(shape)] = values[keeps]
files.save_file({**dense, **{name: tensor.astype(np.float32) for name, tensor in tensors.items()}}, sys.argv[2])
