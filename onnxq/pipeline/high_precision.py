"""The step that converts what is not quantized to FP16 or BF16."""

from __future__ import annotations

import logging

import numpy as np

from onnxq.calib.collect import collect
from onnxq.calib.data import Dataset
from onnxq.errors import ModelError
from onnxq.model.graph import Graph
from onnxq.passes.apply import tidy
from onnxq.passes.half_pairs import FP16_MAX
from onnxq.passes.raise_opset import raise_opset_to
from onnxq.passes.rounded import concats_of_codes
from onnxq.passes.to_half import HalfOptions, reasons_to_keep, to_half
from onnxq.pipeline.config import Config
from onnxq.pipeline.runtimes import runtime_of
from onnxq.pipeline.source import Source

log = logging.getLogger(__name__)
BF16_OPSET = 22
HALF_SAMPLES, HALF_MARGIN = 4, 2.0  # samples looked at for values near the end of FP16


def to_high_precision(
    source: Source, graph: Graph, dataset: Dataset, config: Config
) -> dict[str, str]:
    """Convert what is not quantized to FP16 or BF16 in place; what stays FP32, and why.

    Values beyond the range of FP16 are looked for in a few samples, in every float tensor.
    """
    if config.high_precision == "fp32":
        return {}
    large: dict[str, str] = {}
    if config.high_precision == "fp16":
        few = dataset.subset(min(HALF_SAMPLES, len(dataset)))
        written = (t for node in source.graph.nodes for t in node.outputs)
        floats = [t.name for t in (*source.graph.inputs, *written) if t.dtype == np.float32]
        stats = collect(source.graph, floats, few, runtime=runtime_of(config), workers=1)
        large = {
            node.name: f"'{t.name}' reaches {stats[t.name].amax:.4g}, near the end of FP16"
            for node in source.graph.nodes
            for t in (*node.inputs, *node.outputs)
            if t.name in stats.histograms and stats[t.name].amax > FP16_MAX / HALF_MARGIN
        }
        if config.placement.target == "onnxruntime":
            large |= dict.fromkeys(
                concats_of_codes(graph), "ONNX Runtime has no FP16 QLinearConcat"
            )
    if config.high_precision == "bf16":
        _raise_for_bf16(graph)
    options = HalfOptions(config.high_precision, large, config.io)
    kept = reasons_to_keep(graph, options)
    to_half(graph, options)
    tidy(graph)
    return kept


def _raise_for_bf16(graph: Graph) -> None:
    """Raise the opset to the first in which Conv and pooling are defined for BF16; where onnx
    cannot, they stay FP32."""
    try:
        raise_opset_to(BF16_OPSET)(graph)
    except ModelError as e:
        log.info("BF16: %s", e)
