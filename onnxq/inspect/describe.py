"""What was read, as JSON documents; `report.inspection` prints them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from onnxq.arrays import Array
from onnxq.inspect.reading import NodeReading, Reading, is_integer_op
from onnxq.inspect.reasons import Reasons
from onnxq.inspect.tensors import QuantizedTensor

Document = dict[str, Any]
NAMED = 20  # tensors of the same scale: in fixed point all have one


def describe(
    reading: Reading, reasons: Reasons, clipped: Mapping[str, float] | None = None
) -> Document:
    """The whole model: coverage by op type, every node, every quantized tensor.

    clipped: tensor -> sat_ratio measured on data, which wins over the manifest's.
    """
    return {
        "model": {
            "path": str(reading.path),
            "opset": reading.opset,
            "producer": reading.producer,
            "onnxq_version": reading.metadata.get("onnxq.version"),
        },
        "reasons": {"source": reasons.source, "note": reasons.note},
        "coverage": coverage(reading.nodes),
        "nodes": [_row(node, reasons, clipped) for node in reading.nodes],
        "tensors": [tensor_entry(reading, t, reasons, clipped) for t in reading.tensors],
    }


def coverage(nodes: Iterable[NodeReading]) -> list[Document]:
    """For each op type, the most quantized first: how many nodes, in which precisions."""
    counts: dict[str, Counter[str]] = {}
    quantized: Counter[str] = Counter()
    weighted: set[str] = set()
    for node in nodes:
        counts.setdefault(node.op, Counter())[node.precision] += 1
        quantized[node.op] += node.quantized
        weighted |= {node.op} if node.weighted else set()
    rows = [
        {
            "op": op,
            "nodes": found.total(),
            "quantized": quantized[op],
            "weighted": op in weighted,
            "integer": is_integer_op(op),
            "precisions": dict(found.most_common()),
        }
        for op, found in counts.items()
    ]
    return sorted(rows, key=lambda r: (-int(r["quantized"]), not r["weighted"], -int(r["nodes"])))


def describe_node(
    reading: Reading,
    node: NodeReading,
    reasons: Reasons,
    clipped: Mapping[str, float] | None = None,
) -> Document:
    """One node with its inputs, its outputs and its neighbours."""
    inputs = [
        {
            "index": read.index,
            "tensor": read.tensor,
            "type": read.type,
            "constant": read.constant,
            "written_by": reading.writers.get(read.tensor),
            "quantized": read.quantized and tensor_entry(reading, read.quantized, reasons, clipped),
        }
        for read in node.inputs
    ]
    return {
        **_row(node, reasons, clipped),
        "reasons": {"source": reasons.source, "note": reasons.note},
        "recovered": reasons.recovered_by(node),
        "inputs": inputs,
        "outputs": [describe_tensor(reading, name, reasons, clipped) for name in node.outputs],
        "before": list(node.before),
        "after": list(node.after),
    }


def describe_tensor(
    reading: Reading, name: str, reasons: Reasons, clipped: Mapping[str, float] | None = None
) -> Document:
    """One tensor: who writes and reads it, and how it is quantized, if it is."""
    grids = reading.grids.get(name, ())
    return {
        "tensor": name,
        "written_by": reading.writers.get(name),
        "read_by": list(reading.readers.get(name, ())),
        "quantized": [tensor_entry(reading, t, reasons, clipped) for t in grids],
    }


def tensor_entry(
    reading: Reading,
    tensor: QuantizedTensor,
    reasons: Reasons,
    clipped: Mapping[str, float] | None = None,
) -> Document:
    """One quantized tensor. scale: a number, or a list with one for each channel or block; amax:
    the largest |x| that it can hold, low and high where it has a zero point."""
    found = reasons.range_of(tensor) if tensor.kind == "activation" else None
    ends, largest = tensor.interval, _largest(tensor)
    same = reading.sharing(tensor)
    lopsided = ends is not None and -ends[0] != ends[1]
    return {
        "name": tensor.name,
        "kind": tensor.kind,
        "spec": tensor.spec,
        "type": tensor.label,
        "storage": tensor.storage,
        "granularity": tensor.granularity,
        "axis": tensor.axis,
        "block_size": tensor.block_size or None,
        "scale": _numbers(tensor.scale),
        "zero_point": _zero(tensor.zero_point),
        "amax": largest,
        "low": ends[0] if ends and lopsided else None,
        "high": ends[1] if ends and lopsided else None,
        "origin": reasons.origin(tensor),
        "sat_ratio": _clipping(tensor, found, clipped),
        "expected_error": _known(found and found["expected_error"]),
        "codes_at_end": tensor.at_end if tensor.kind == "weight" else None,
        "same_scale": same[:NAMED],
        "same_scale_count": len(same),
    }


def _row(node: NodeReading, reasons: Reasons, clipped: Mapping[str, float] | None) -> Document:
    """One node in a table: the scale and the clipping of the first activation that it reads."""
    first = next((g for g in node.grids if g.kind == "activation"), None)
    found = reasons.range_of(first) if first is not None else None
    single = first is not None and first.scale is not None and first.scale.size == 1
    return {
        "name": node.name,
        "op": node.op,
        "precision": node.precision,
        "quantized": node.quantized,
        "weighted": node.weighted,
        "why": reasons.why(node),
        "scale": _numbers(first.scale) if first is not None and single else None,
        "sat_ratio": first and _clipping(first, found, clipped),
    }


def _known(error: Any) -> float | None:
    """An expected error of a manifest; None where it is not a number, as of FP4."""
    return None if error is None or math.isnan(float(error)) else float(error)


def _clipping(
    tensor: QuantizedTensor, found: Mapping[str, Any] | None, clipped: Mapping[str, float] | None
) -> float | None:
    if tensor.kind == "activation" and clipped is not None and tensor.name in clipped:
        return clipped[tensor.name]
    return None if found is None else float(found["sat_ratio"])


def _largest(tensor: QuantizedTensor) -> float | None:
    if tensor.scale is None or tensor.limits is None:
        return None
    if (ends := tensor.interval) is not None:
        return max(abs(ends[0]), abs(ends[1]))
    return float(tensor.scale.astype("float64").max(initial=0.0)) * tensor.limits[1]


def _numbers(values: Array | None) -> float | list[Any] | None:
    """A number, or nested lists; None for what is computed."""
    if values is None:
        return None
    wide = values.astype("float64")
    return float(wide.reshape(())) if wide.size == 1 else list(wide.tolist())


def _zero(values: Array | None) -> int | list[Any] | None:
    """A zero point; one number where all are equal."""
    if values is None or not values.size:
        return 0
    whole = values.astype("float64").astype("int64")
    return int(whole.flat[0]) if (whole == whole.flat[0]).all() else list(whole.tolist())
