"""Builds the ONNX files named on stdin, one a line, and prints what TensorRT-RTX made of each.

One process for many small builds; where TensorRT brings it down, the parent starts another.
"""

from __future__ import annotations

import json
import sys

import onnx
import tensorrt_rtx as trt

from onnxq.trt.context import WEIGHTED
from onnxq.trt.engine import coverage, read_engine


class Errors(trt.ILogger):
    """Keeps the errors and says nothing."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.texts: list[str] = []

    def log(self, severity: trt.ILogger.Severity, text: str) -> None:
        if severity <= trt.ILogger.ERROR and "cudaError" not in text:
            self.texts.append(text)


def build(builder: trt.Builder, errors: Errors, path: str) -> dict[str, object]:
    """Whether `path` builds for SM89, or with FP4 for SM120; the errors, or what its weighted ops
    compute in."""
    errors.texts.clear()
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, errors)
    if not parser.parse_from_file(path):
        problems = [parser.get_error(i) for i in range(parser.num_errors)]
        return {"built": False, "errors": [(p.desc(), p.node_name()) for p in problems]}
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    graph = onnx.load(path, load_external_data=False).graph
    fp4 = any(t.data_type == onnx.TensorProto.FLOAT4E2M1 for t in graph.initializer)
    capability = trt.ComputeCapability.SM120 if fp4 else trt.ComputeCapability.SM89
    config.set_compute_capability(capability, 0)
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        shape = [1 if d < 0 else d for d in tensor.shape]
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return {"built": False, "errors": [(text, "") for text in errors.texts]}
    weighted = [n.name for n in graph.node if n.op_type in WEIGHTED]
    return {"built": True, "runs": coverage(read_engine(bytes(engine)), weighted)}


def main() -> None:
    """Answer each line with one line of JSON."""
    errors = Errors()
    builder = trt.Builder(errors)
    for line in sys.stdin:
        print(
            json.dumps({"path": line.strip(), **build(builder, errors, line.strip())}), flush=True
        )


if __name__ == "__main__":
    main()
