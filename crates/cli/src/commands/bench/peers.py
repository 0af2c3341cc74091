"""Runs a model with another program, for `skinny bench --against`.

Arguments: the peer (onnxruntime, onnxruntime-int8 or torch), the number of threads, and a folder with model.onnx,
network.json and weights.safetensors. Reads one JSON object per line: {"batch", "runs", "input", "output"}, where input and
output are files of f32, and answers with {"times", "rss"}: seconds of each run, and bytes of memory at the most so far. The
first line it writes says {"version", "load"} or {"error"}: seconds until the model could run, without importing the library.
"""
import json
import os
import resource
import sys
import time

peer, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def onnxruntime_model(ort, path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return ort.__version__, lambda images: session.run(None, {name: images})[0]


def quantized(shape):
    """Static int8, weights per output channel, calibrated on random images."""
    import logging

    import numpy
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    logging.disable(logging.WARNING)
    random = numpy.random.default_rng(0)

    class Images(CalibrationDataReader):
        left = 16

        def get_next(self):
            self.left -= 1
            return {"input": random.standard_normal([1] + shape, dtype=numpy.float32)} if self.left >= 0 else None

    path = os.path.join(folder, "int8.onnx")
    if not os.path.exists(path):
        quantize_static(
            os.path.join(folder, "model.onnx"), path, Images(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )
    return path


def torch_model(network):
    import safetensors.torch
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    weights = safetensors.torch.load_file(os.path.join(folder, "weights.safetensors"))

    class Network(torch.nn.Module):
        def forward(self, images):
            values = {"input": images}
            for layer in network["layers"]:
                name, kind = layer["name"], layer["type"]
                inputs = [values[i] for i in layer["inputs"]]
                x, get = inputs[0], lambda part: weights.get(name + "." + part)
                if kind == "conv":
                    y = F.conv2d(x, get("weight"), get("bias"), layer["stride"], layer["padding"], 1, layer["groups"])
                elif kind == "linear":
                    y = F.linear(x.flatten(1), get("weight"), get("bias"))
                elif kind == "batchnorm":
                    y = F.batch_norm(x, get("running_mean"), get("running_var"), get("weight"), get("bias"), False, 0.0, layer["eps"])
                elif kind == "relu":
                    y = F.relu(x)
                elif kind == "maxpool":
                    y = F.max_pool2d(x, layer["kernel"], layer["stride"], layer["padding"], ceil_mode=layer["ceil"])
                elif kind == "avgpool":
                    y = F.avg_pool2d(x, layer["kernel"], layer["stride"], layer["padding"], layer["ceil"], False)
                elif kind == "globalpool":
                    y = F.adaptive_avg_pool2d(x, 1)
                elif kind == "lrn":
                    y = F.local_response_norm(x, layer["size"], layer["alpha"], layer["beta"], layer["k"])
                elif kind == "flatten":
                    y = x.flatten(1)
                elif kind == "add":
                    y = sum(inputs[1:], x)
                elif kind == "softmax":
                    y = F.softmax(x.flatten(1), 1)
                else:
                    y = x
                values[name] = y
            return y.flatten(1)

    with torch.inference_mode():
        example = torch.zeros([1] + network["input"])
        traced = torch.jit.freeze(torch.jit.trace(Network().eval(), example))

    def run(images):
        with torch.inference_mode():
            return traced(torch.from_numpy(images)).numpy()

    return torch.__version__, run


try:
    import numpy

    with open(os.path.join(folder, "network.json")) as file:
        network = json.load(file)
    if peer == "torch":
        import safetensors.torch
        import torch

        start = time.perf_counter()
        version, run = torch_model(network)
    else:
        path = os.path.join(folder, "model.onnx")
        if peer == "onnxruntime-int8":
            path = quantized(network["input"])
        import onnxruntime

        start = time.perf_counter()
        version, run = onnxruntime_model(onnxruntime, path)
    load = time.perf_counter() - start
    run(numpy.zeros([1] + network["input"], numpy.float32))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
    sys.exit(0)
print(json.dumps({"version": version, "load": load}), flush=True)

for line in sys.stdin:
    request = json.loads(line)
    images = numpy.fromfile(request["input"], numpy.float32).reshape([request["batch"]] + network["input"])
    times = []
    for _ in range(request["runs"]):
        start = time.perf_counter()
        result = run(images)
        times.append(time.perf_counter() - start)
    if request.get("output"):
        numpy.ascontiguousarray(result, numpy.float32).tofile(request["output"])
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"times": times, "rss": rss}), flush=True)
