"""How two models differ in their quantization: placement, scales, codes, constants.

Nodes are held against each other by name, and of those of one name input by input; so models of
two tools can be compared as long as both kept the names of the float model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.inspect.reading import NAMES, NodeReading, Read, Reading
from onnxq.inspect.tensors import THROUGH, QuantizedTensor
from onnxq.judge.accuracy import Agreements
from onnxq.judge.plain import cannot
from onnxq.model.graph import behind, constant_of
from onnxq.numerics import sqnr_db

MISSING = "not there"


@dataclass(frozen=True)
class Placement:
    """A node, or one input of it (None: all of it), that is quantized in another way."""

    node: str
    op: str
    input: int | None
    a: str
    b: str


@dataclass(frozen=True)
class ScaleChange:
    """A tensor that both models quantize alike, with other numbers.

    change_db: 20 log10 of B's scale over A's, of the channel or block where that is largest. a, b:
    A's and B's scale there. codes_changed: share of a weight's codes. sqnr_db: of B's weight
    against A's. The last two are None for activations.
    """

    tensor: str
    kind: str
    spec: str
    nodes: tuple[str, ...]
    a: float
    b: float
    change_db: float
    zero_points: tuple[float, float] | None
    codes_changed: float | None
    sqnr_db: float | None


@dataclass(frozen=True)
class ConstantChange:
    """A constant input, such as a bias, that is not the same; sqnr_db: of B's against A's."""

    node: str
    input: int
    tensor: str
    sqnr_db: float
    largest: float


@dataclass(frozen=True)
class Difference:
    """What differs, the largest changes first. compared: nodes, quantized tensors and constants
    that both models have. effect: what was measured on data, pair of models -> output. troubles:
    pairs that plain ONNX Runtime sessions could not run, and why."""

    a: str
    b: str
    placement: tuple[Placement, ...]
    scales: tuple[ScaleChange, ...]
    constants: tuple[ConstantChange, ...]
    compared: Mapping[str, int]
    effect: Mapping[str, Agreements] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether nothing differs; what was measured does not count."""
        return not (self.placement or self.scales or self.constants)

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {
            "a": self.a,
            "b": self.b,
            "equal": self.equal,
            "compared": dict(self.compared),
            "placement": [asdict(p) for p in self.placement],
            "scales": [asdict(s) for s in self.scales],
            "constants": [asdict(c) for c in self.constants],
            "effect": {
                pair: {name: found.as_dict() for name, found in outputs.items()}
                for pair, outputs in self.effect.items()
            },
            "effect_parts": {
                pair: {name: found.as_dict() for name, found in outputs.judged.items()}
                for pair, outputs in self.effect.items()
            },
            "effect_headline": {
                pair: outputs.headline.as_dict()
                for pair, outputs in self.effect.items()
                if outputs.headline is not None
            },
            "effect_notes": {pair: [*self.lines(pair)] for pair in self.effect},
        }

    def lines(self, pair: str) -> Iterator[str]:
        """What is to be said of a measured pair, beside its numbers."""
        yield from self.effect[pair].equal_lines()
        yield from self.effect[pair].notes()
        if pair in self.troubles:
            yield cannot(self.troubles[pair])


def difference(a: Reading, b: Reading) -> Difference:
    """How B differs from A."""
    common = [(node, b.by_name[node.name]) for node in a.nodes if node.name in b.by_name]
    placement = [change for pair in common for change in _placement(*pair)]
    placement += [Placement(n.name, n.op, None, n.precision, MISSING)
                  for n in a.nodes if n.name not in b.by_name]  # fmt: skip
    placement += [Placement(n.name, n.op, None, MISSING, n.precision)
                  for n in b.nodes if n.name not in a.by_name]  # fmt: skip
    tensors = _tensors(common)
    scales = [c for pair, nodes in tensors.items() if (c := _scale_change(*pair, nodes))]
    constants = [pair for nodes in common for pair in _constants(*nodes)]
    changed = [c for c in map(_constant_change, constants) if c is not None]
    return Difference(
        str(a.path),
        str(b.path),
        tuple(sorted(placement, key=_rank)),
        tuple(sorted(scales, key=_size, reverse=True)),
        tuple(sorted(changed, key=_least_first)),
        {"nodes": len(common), "tensors": len(tensors), "constants": len(constants)},
    )


def _least_first(change: ConstantChange) -> float:
    return -math.inf if math.isnan(change.sqnr_db) else change.sqnr_db


def _rank(change: Placement) -> tuple[bool, bool]:
    """Quantization before types of floats, and these before nodes that one model does not have."""
    return MISSING in (change.a, change.b), {change.a, change.b} <= set(NAMES.values())


def _size(change: ScaleChange) -> tuple[float, bool, float]:
    return abs(change.change_db), change.zero_points is not None, change.codes_changed or 0.0


def _pairs(a: NodeReading, b: NodeReading) -> Iterator[tuple[Read, Read]]:
    """The inputs that both nodes have."""
    theirs = {read.index: read for read in b.inputs}
    yield from ((read, theirs[read.index]) for read in a.inputs if read.index in theirs)


def _placement(a: NodeReading, b: NodeReading) -> Iterator[Placement]:
    """One row for a node of another precision; else one for each input of another spec."""
    if a.precision != b.precision or a.op != b.op:
        op = a.op if a.op == b.op else f"{a.op}, {b.op}"
        yield Placement(a.name, op, None, a.precision, b.precision)
        return
    for mine, theirs in _pairs(a, b):
        specs = [_placed(read.quantized) for read in (mine, theirs)]
        if specs[0] != specs[1]:
            yield Placement(a.name, a.op, mine.index, *specs)


def _placed(tensor: QuantizedTensor | None) -> str:
    """How an input is quantized; a bias counts as a constant, not as a place."""
    return "float" if tensor is None or tensor.kind == "bias" else tensor.spec


def _tensors(
    common: list[tuple[NodeReading, NodeReading]],
) -> dict[tuple[QuantizedTensor, QuantizedTensor], list[str]]:
    """Tensors that both quantize alike -> the nodes that read them."""
    found: dict[tuple[QuantizedTensor, QuantizedTensor], list[str]] = {}
    for a, b in common:
        for mine, theirs in _pairs(a, b):
            one, other = mine.quantized, theirs.quantized
            if one is None or other is None or "bias" in (one.kind, other.kind):
                continue
            if one.spec == other.spec:
                found.setdefault((one, other), []).append(a.name)
    return found


def _scale_change(a: QuantizedTensor, b: QuantizedTensor, nodes: list[str]) -> ScaleChange | None:
    if a.scale is None or b.scale is None or a.scale.size != b.scale.size:
        return None
    before, after = (t.scale.astype(np.float64).reshape(-1) for t in (a, b) if t.scale is not None)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.nan_to_num(20 * np.log10(after / before), nan=0.0)
    most = int(np.abs(change).argmax()) if change.size else 0
    zeros = _zero_points(a, b)
    codes, noise = _codes_changed(a, b), None
    if codes is not None:
        noise = _sqnr(a.floats, b.floats)
    if not change.any() and zeros is None and not codes:
        return None
    return ScaleChange(
        a.name, a.kind, a.spec, tuple(nodes), float(before[most]), float(after[most]),
        float(change[most]), zeros, codes, noise,
    )  # fmt: skip


def _zero_points(a: QuantizedTensor, b: QuantizedTensor) -> tuple[float, float] | None:
    """The first pair of zero points that is not equal."""
    zeros = [np.zeros(1) if t.zero_point is None else t.zero_point.reshape(-1).astype(np.float64)
             for t in (a, b)]  # fmt: skip
    mine, theirs = np.broadcast_arrays(*zeros) if 1 in map(len, zeros) else zeros
    if mine.shape != theirs.shape or not (different := np.flatnonzero(mine != theirs)).size:
        return None
    return float(mine[different[0]]), float(theirs[different[0]])


def _codes_changed(a: QuantizedTensor, b: QuantizedTensor) -> float | None:
    mine, theirs = a.codes, b.codes
    if mine is None or theirs is None or mine.shape != theirs.shape:
        return None
    return float(np.mean(mine != theirs)) if mine.size else 0.0


def _constants(
    a: NodeReading, b: NodeReading
) -> Iterator[tuple[str, Read, Array | None, Array | None]]:
    """Constant inputs that neither quantizes but as a bias, with their values."""
    for mine, theirs in _pairs(a, b):
        kinds = {r.quantized.kind for r in (mine, theirs) if r.quantized is not None}
        if mine.constant and theirs.constant and kinds <= {"bias"}:
            yield a.name, mine, _values(a, mine), _values(b, theirs)


def _values(node: NodeReading, read: Read) -> Array | None:
    if read.quantized is not None:
        return read.quantized.floats
    return constant_of(behind(node.node.inputs[read.index], THROUGH))


def _equal(a: Array, b: Array) -> bool:
    return np.array_equal(a.astype(np.float64), b.astype(np.float64), equal_nan=True)


def _constant_change(
    found: tuple[str, Read, Array | None, Array | None],
) -> ConstantChange | None:
    node, read, a, b = found
    if a is None or b is None or a.dtype.kind in "SUO" or b.dtype.kind in "SUO":
        return None
    if a.shape == b.shape and _equal(a, b):
        return None
    gap = np.abs(a.astype(np.float64) - b.astype(np.float64)) if a.shape == b.shape else np.inf
    return ConstantChange(node, read.index, read.tensor, _sqnr(a, b), float(np.max(gap)))


def _sqnr(a: Array | None, b: Array | None) -> float:
    """SQNR of B against A in dB; -inf where they have not the same shape."""
    if a is None or b is None or a.shape != b.shape:
        return -np.inf
    return sqnr_db(a, b)
