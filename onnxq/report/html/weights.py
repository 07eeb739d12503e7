"""What rounding does to weights: SQNR in dB of what their codes stand for against the floats.

    SQNR = 10 log10( sum w² / sum (w - w')² )      over all weights of a node

The floats are those of the prepared float model, from which the codes were rounded, or of the
quantized model itself where it holds weights in float. They are never guessed from the scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import OnnxqError
from onnxq.inspect.reading import NodeReading, Read, Reading
from onnxq.inspect.tensors import QuantizedTensor
from onnxq.model.graph import Graph, Node, constant_of, within
from onnxq.numerics import decibels
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import prepare
from onnxq.report.html.documents import check_model
from onnxq.report.html.evidence import Document

RESHAPING = ("smooth", "equaliz")  # recoveries that change weights before they are rounded
SCALED = "channel scales"


def weight_errors(reading: Reading, floats: Graph | None) -> dict[str, float]:
    """Node -> SQNR in dB of its quantized weights, of those whose floats are known. floats: the
    graph that the weights were rounded from, with the same names."""
    nodes = {} if floats is None else {node.name: node for node in within(floats.nodes)}
    found = {node.name: _error(node, nodes.get(node.name)) for node in reading.nodes}
    return {name: error for name, error in found.items() if error is not None}


def _error(node: NodeReading, source: Node | None) -> float | None:
    power = noise = 0.0
    for read in node.inputs:
        grid = read.quantized
        if grid is None or grid.kind != "weight":
            continue
        before, after = _floats(read, grid, source), grid.floats
        if before is None or after is None or before.shape != after.shape:
            return None
        wide = before.astype(np.float64)
        power += float(np.square(wide).sum())
        noise += float(np.square(wide - after).sum())
    return decibels(power, noise) if power else None


def _floats(read: Read, grid: QuantizedTensor, source: Node | None) -> Array | None:
    if not grid.stored:
        return constant_of(grid.values)
    if source is None or read.index >= len(source.inputs):
        return None
    values = constant_of(source.inputs[read.index])
    return values if values is not None and values.dtype.kind == "f" else None


def reshaped(manifest: Document | None) -> bool:
    """Whether a recovery changed weights before statistics were taken and weights rounded."""
    done = (manifest or {}).get("recovered", ())
    return any(
        r.get("algorithm", "").startswith(RESHAPING)
        or (r.get("algorithm") == SCALED and r.get("gain_db"))
        for r in done
    )


def float_graph(path: Path | None, beside: Path, manifest: Document | None) -> Graph | None:
    """The prepared float model of a manifest: at `path`, else by its name in the folder `beside`.

    None where there is none, or a recovery changed its weights before they were rounded. Raises
    OnnxqError for a file that was named and is another model.
    """
    if manifest is None or reshaped(manifest):
        return None
    here = path or beside / str(manifest["model"]["path"])
    if path is None and not here.is_file():
        return None
    try:
        source = prepare(here, _prepared_as(manifest["config"]))
    except OnnxqError:
        if path is None:
            return None
        raise
    if path is not None:
        check_model(str(manifest["model"]["sha256"]), source.sha256, f"the float model '{path}' is")
    return source.graph if source.sha256 == manifest["model"]["sha256"] else None


def _prepared_as(config: Mapping[str, object]) -> Config:
    """Of a manifest's options those that decide what weights the prepared graph has."""
    fix = config.get("fix", ())
    named = tuple(str(one) for one in fix) if isinstance(fix, list | tuple) else ()
    return Config(fix=named, requantize=bool(config.get("requantize", False)))
