"""Does TensorRT-RTX build the quantized models, and what do the engines run on INT8 inputs?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import Bench, Case, Output, feeds, quantized, say

from onnxq.trt.build import BuildOptions, build
from onnxq.trt.engine import coverage, load_engine

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
TOOL = "tensorrt-rtx"


def engines(bench: Bench, case: Case) -> dict[str, dict[str, Any]]:
    """The verdict on the INT8 model with the rest in FP32 and with the rest in FP16."""
    return {
        "int8": verdict(bench, case, quantized(bench, case)),
        "fp16": verdict(bench, case, quantized(bench, case, "--high-precision", "fp16")),
    }


def builds(bench: Bench, case: Case, path: Path) -> bool:
    """Whether an engine of a model is built, whoever quantized it."""
    feed = next(feeds(bench, case, "val"))
    names = [value.name for value in onnx.load(str(path), load_external_data=False).graph.input]
    shapes = _shapes(path, feed if isinstance(feed, dict) else {names[0]: feed})
    options = BuildOptions(backend=TOOL, shapes=shapes)
    return build(path, path.with_suffix(".engine"), options=options).ok


def verdict(bench: Bench, case: Case, model: Output) -> dict[str, Any]:
    """Whether it builds, and how many of the planned products run in INT8.

    others: precision -> how many planned products run in it instead. error: why there is no engine,
    or why it cannot be read.
    """
    say(f"{case.title}: building {model.path.name}")
    feed = next(feeds(bench, case, "val"))
    inputs = onnx.load(str(model.path), load_external_data=False).graph.input
    return coverage_of(model.path, feed if isinstance(feed, dict) else {inputs[0].name: feed})


def coverage_of(path: Path, feed: Mapping[str, np.ndarray], tool: str = TOOL) -> dict[str, Any]:
    """As `verdict`, of a quantized model with its manifest beside it; `feed` says the shapes of
    dynamic inputs."""
    out = path.with_suffix(".engine")
    options = BuildOptions(backend=tool, shapes=_shapes(path, feed))
    result = build(path, out, options=options)
    planned = planned_products(path)
    found: dict[str, Any] = {
        "tool": f"{result.backend} {result.version}",
        "arch": result.arch,
        "builds": result.ok,
        "planned": len(planned),
    }
    if not result.ok:
        return found | {"error": "; ".join(map(str, result.problems))}
    engine = load_engine(out)
    if not engine.readable:
        return found | {"error": engine.reason}
    ran = Counter(coverage(engine, planned).values())
    found |= {"ran": dict(ran), "kernels": len(engine.kernels)}
    int8 = ran.pop("int8", 0)
    return found | {"int8": int8, "others": dict(ran)}


def planned_products(path: Path) -> list[str]:
    """Names of the nodes the plan quantizes that multiply by weights or one another."""
    graph = onnx.load(str(path), load_external_data=False).graph
    ops = {node.name: node.op_type for node in graph.node}
    manifest = json.loads(path.with_name(path.name + ".manifest.json").read_text("utf-8"))
    return [name for name in manifest["quantized_nodes"] if ops[name] in PRODUCTS]


def _shapes(path: Path, feed: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The shapes of a sample's dynamic inputs."""
    return tuple(
        f"{value.name}:{'x'.join(map(str, feed[value.name].shape))}"
        for value in onnx.load(str(path), load_external_data=False).graph.input
        if any(not axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)
    )
