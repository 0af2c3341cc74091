"""Bytes of one network as .skinny in every form and as what other tools write.

    python scripts/bytes.py NAME RUN [--skinny PROGRAM] [--verify N] >> results/bytes/README.md
    python scripts/bytes.py NAME ZOO_NETWORK --random DENSITY [--skinny PROGRAM] >> results/bytes/README.md

With --random the weights are normal numbers of which the largest of each layer are kept: no index can take less than the
floor for them, where training leaves rows and columns of uneven density. Needs the packages of scripts/requirements.txt and `zstd`.
What is read back is compared with what was written, for every form that keeps the values.
"""

import argparse
import gzip
import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

import torch
from compressed_tensors.compressors.sparse_compressors.sparse_bitmask import BitmaskTensor
from safetensors.torch import load_file, save_file

from torch_network import load


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def random_source(network, density, folder):
    """Weights in safetensors and a recipe that names their network."""
    torch.manual_seed(0)
    weights = {}
    for name, tensor in load(network).named().items():
        values = 0.05 * torch.randn(tensor.shape)
        if name.endswith(".weight") and tensor.dim() > 1:
            size = values.abs().flatten()
            dropped = size.argsort(stable=True)[: len(size) - round(density * len(size))]
            values.view(-1)[dropped] = 0
        weights[name] = values
    save_file(weights, folder / "random.safetensors")
    recipe = f'name = "random"\ndata = {{ name = "mnist" }}\nnetwork = {{ name = "{network}" }}\n'
    recipe += 'train = { epochs = 1, lr = 0.1 }\nsparsity = { method = "dense" }\n'
    (folder / "random.toml").write_text(recipe)
    return folder / "random.safetensors", folder / "random.toml"


def skinny_forms(arguments, folder):
    """Rows of .skinny files: form, bytes, and what the verification found."""
    for pack in ("small", "fast"):
        for values in ("f32", "f16", "int8", "codebook256", "codebook16"):
            file = folder / f"{pack}-{values}.skinny"
            command = [arguments.skinny, "--json", "export", arguments.source, "--to", file, "--pack", pack, "--values", values]
            command += ["--recipe", arguments.recipe] if arguments.recipe else []
            command += ["--verify", arguments.verify] if arguments.verify else []
            told = json.loads(run(*command))
            inspected = json.loads(run(arguments.skinny, "--json", "inspect", file))
            index = f"{inspected['index_bytes'] / max(inspected['index_floor_bytes'], 1):.3f}"
            checked = told["verified"]
            error = f"{100 * checked['written_error']:.2f} %" if checked else "–"
            yield f"`.skinny`, {pack}, {values}", file.stat().st_size, index, error


def bitmask_of_compressed_tensors(weights, folder):
    """compressed-tensors' own compressor on the weights as matrices, everything else as it is."""
    tensors = {}
    for name, tensor in weights.items():
        if name.endswith(".weight") and tensor.dim() > 1:
            packed = BitmaskTensor.from_dense(tensor.reshape(len(tensor), -1))
            assert torch.equal(packed.decompress(), tensor.reshape(len(tensor), -1))
            tensors.update({key: value.contiguous() for key, value in packed.dict(name, device="cpu").items()})
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "bitmask.safetensors")
    return (folder / "bitmask.safetensors").stat().st_size


def bitmask_of_skinny_is_read(weights, folder):
    """compressed-tensors reads the bitmask parts of a `.skinny` file as its own; gives how many weights have them."""
    parts = load_file(folder / "fast-f32.skinny")
    names = [name.removesuffix(".bitmask") for name in parts if name.endswith(".bitmask")]
    for name in names:
        shape, values, mask, offsets = (parts[f"{name}.{part}"] for part in ("shape", "compressed", "bitmask", "row_offsets"))
        packed = BitmaskTensor(shape=torch.Size(shape.tolist()), compressed=values, bitmask=mask, row_offsets=offsets)
        assert torch.equal(packed.decompress().reshape(weights[name].shape), weights[name]), name
    return len(names)


def sparse_csr_of_pytorch(weights, folder):
    sparse = {
        name: tensor.reshape(len(tensor), -1).to_sparse_csr() if name.endswith(".weight") and tensor.dim() > 1 else tensor
        for name, tensor in weights.items()
    }
    torch.save(sparse, folder / "csr.pt")
    return (folder / "csr.pt").stat().st_size


def zipped(path):
    target = path.with_suffix(path.suffix + ".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(path, path.name)
    return target.stat().st_size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("source")
    parser.add_argument("--random", type=float)
    parser.add_argument("--skinny", default=os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release", "skinny"))
    parser.add_argument("--verify", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        arguments.recipe = None
        dense = Path(arguments.source) / "weights/last.safetensors"
        if arguments.random:
            dense, arguments.recipe = random_source(arguments.source, arguments.random, folder)
            arguments.source = dense
        weights = load_file(dense)
        size = dense.stat().st_size
        rows = [("dense safetensors", size, "", "")]
        rows.append(("dense safetensors, gzip -9", len(gzip.compress(dense.read_bytes(), 9)), "", ""))
        run("zstd", "-19", "-q", dense, "-o", folder / "dense.zst")
        rows.append(("dense safetensors, zstd -19", (folder / "dense.zst").stat().st_size, "", ""))
        rows.append(("compressed-tensors, sparse-bitmask", bitmask_of_compressed_tensors(weights, folder), "", ""))
        rows.append(("PyTorch, sparse CSR", sparse_csr_of_pytorch(weights, folder), "", ""))
        onnx = folder / "model.onnx"
        recipe = ["--recipe", arguments.recipe] if arguments.recipe else []
        run(arguments.skinny, "export", arguments.source, "--to", onnx, *recipe)
        rows.append(("ONNX", onnx.stat().st_size, "", ""))
        rows.append(("ONNX, zipped", zipped(onnx), "", ""))
        rows += list(skinny_forms(arguments, folder))
        read = bitmask_of_skinny_is_read(weights, folder)
    kept = sum(int((tensor != 0).sum()) for name, tensor in weights.items() if name.endswith(".weight") and tensor.dim() > 1)
    total = sum(tensor.numel() for name, tensor in weights.items() if name.endswith(".weight") and tensor.dim() > 1)
    print(f"\n## {arguments.name}\n\n{kept:,} of {total:,} weights kept (density {kept / total:.4f}).\n")
    print("| form | bytes | ÷ dense | index / floor | test error |\n|---|---:|---:|---:|---:|")
    for form, count, index, error in rows:
        print(f"| {form} | {count:,} | {size / count:.1f} | {index} | {error} |")
    if read:
        print(f"\ncompressed-tensors reads the {read} bitmasks of the fast file as its own and gives the same weights.")


if __name__ == "__main__":
    main()
