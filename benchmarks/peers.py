"""Other quantizers on the same calibration data, each run as a whole process.

    python peers.py ort-int8|ort-uint8|onnxsim|modelopt METHOD MODEL DATA.npy|DATA.npz OUT

`ort-int8` is ONNX Runtime's quantize_static as TensorRT takes it: symmetric, INT8, the ops that it
runs in INT8, biases float. `ort-uint8` is its defaults for a CPU: UINT8 activations, every op. Both
in QDQ form, with weights per channel, after quant_pre_process. `onnxsim` is onnxsim's own
quantize_static behind its simplify: UINT8 activations of Conv, MatMul and Gemm. `modelopt` is Model
Optimizer's ONNX quantizer, INT8 with FP32 around it, on the CPU.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

# The quantizers that are compared: title -> the first two arguments.
ORT = {
    "ONNX Runtime, INT8, minmax": ("ort-int8", "minmax"),
    "ONNX Runtime, INT8, entropy": ("ort-int8", "entropy"),
    "ONNX Runtime, UINT8, minmax": ("ort-uint8", "minmax"),
}
ONNXSIM = {
    "onnxsim, UINT8, minmax": ("onnxsim", "minmax"),
    "onnxsim, UINT8, mse": ("onnxsim", "mse"),
}
MODELOPT = {"Model Optimizer, INT8, entropy": ("modelopt", "entropy")}
INT8_OPS = ["Conv", "Gemm", "MatMul", "Add"]
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
ADDRESSES = 12 << 30  # bytes: some keep every activation of every sample


class Reader:
    """A file's samples, one at a time."""

    def __init__(self, data: Path, names: list[str]) -> None:
        loaded = np.load(data, mmap_mode="r")
        self.arrays = {n: loaded[n] for n in names} if data.suffix == ".npz" else {names[0]: loaded}
        self.count = len(next(iter(self.arrays.values())))
        self.next = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample, None at the end."""
        if self.next == self.count:
            return None
        self.next += 1
        return {n: np.array(x[self.next - 1 : self.next]) for n, x in self.arrays.items()}


def onnxruntime(model: Path, data: Path, out: Path, method: str, symmetric: bool) -> None:
    """Write what ONNX Runtime's quantize_static makes."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(Reader)
    methods = {m.name.lower(): m for m in CalibrationMethod}
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(out),
            Reader(data, inputs(prepared)),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[method],
            op_types_to_quantize=INT8_OPS if symmetric else None,
            extra_options=SYMMETRIC if symmetric else {},
        )


def onnxsim(model: Path, data: Path, out: Path, method: str) -> None:
    """Write what onnxsim's quantize_static makes."""
    from onnxsim import quantize_static, simplify

    samples = list(iter(Reader(data, inputs(model)).get_next, None))
    simplified, _ = simplify(str(model))  # without it, it quantizes nothing of some models
    onnx.save(quantize_static(simplified, samples, method=method), out)


def modelopt(model: Path, data: Path, out: Path, method: str) -> None:
    """Write what Model Optimizer's quantize makes."""
    from modelopt.onnx.quantization import quantize

    loaded = np.load(data)
    quantize(
        onnx_path=str(model),
        quantize_mode="int8",
        calibration_data=dict(loaded) if data.suffix == ".npz" else loaded,
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(out),
    )


def inputs(model: Path) -> list[str]:
    """Names of a model's inputs, weights that are declared as inputs left out."""
    graph = onnx.load(model, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in weights]


def main(tool: str, method: str, *paths: str) -> None:
    """Quantize within a limit of memory."""
    if sys.platform == "linux" and tool != "modelopt":  # whose libraries map more than they use
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    model, data, out = map(Path, paths)
    if tool == "onnxsim":
        onnxsim(model, data, out, method)
    elif tool == "modelopt":
        modelopt(model, data, out, method)
    else:
        onnxruntime(model, data, out, method, tool == "ort-int8")


if __name__ == "__main__":
    main(*sys.argv[1:])
