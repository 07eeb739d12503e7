"""An engine's layers held against its profile and the ONNX model: each node's type and time.

    layers (trtexec --exportLayerInfo) --+
    profile (trtexec --exportProfile) ---+--> EngineReading: nodes, copies, residual Adds, coverage
    model with Q/DQ ---------------------+

The time of a layer goes to its products (Conv, Gemm, MatMul, ...), alike to each; without one to
all nodes in it; that of a conversion, such as a QuantizeLinear of its own, to conversions alone.
So the times of nodes, of conversions, of layers whose nodes are not told (hidden), and of those
that are TensorRT's own (`own_ms`), add up to the whole, each counted once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from onnxq.layers.copies import Copy, copies_of, readers_of
from onnxq.layers.info import LOW, Layer, LayerInfo
from onnxq.layers.names import Named, is_quantizer, named
from onnxq.layers.profile import Profile, joined
from onnxq.model.graph import WEIGHTED

PRODUCT = re.compile(r"(?:^|[/_.])(Conv|ConvTranspose|Gemm|MatMul|Conv2D|Einsum)(?:_\d+)?$")
TURNS = ("quantize", "dequantize", "requantize")
ADD = re.compile(r"(?:^|[/_.])Add(?:_\d+)?$")


@dataclass(frozen=True)
class Model:
    """What is known of the model that the engine was built from.

    ops: node -> op. meant: weighted node -> the type that its Q/DQ asks for.
    """

    ops: Mapping[str, str]
    meant: Mapping[str, str]


@dataclass(frozen=True)
class Timed:
    """A layer, the nodes in it, and its mean time; None without a profile."""

    layer: Layer
    said: Named
    ms: float | None


@dataclass(frozen=True)
class NodeTime:
    """A node: in which layer it runs, with which others, in what type, and for how long.

    meant: the type that its Q/DQ asks for, "" where it asks for none. ms: its part of the layer's
    time, `layer_ms`.
    """

    layer: str
    precision: str
    meant: str
    ms: float | None
    layer_ms: float | None
    fused_with: tuple[str, ...]


@dataclass(frozen=True)
class Residual:
    """An Add that a product absorbed. skip, out: types of the branch that it adds and of what comes
    out. copy_ms: of the kernels that quantize or dequantize these two."""

    node: str
    skip: str
    out: str
    layer_ms: float | None
    copy_ms: float | None


@dataclass(frozen=True)
class EngineReading:
    """What an engine runs, and how long. total_ms: None without a profile. lost_ms: of entries of
    the profile that belong to no layer."""

    info: LayerInfo
    timed: tuple[Timed, ...]
    nodes: Mapping[str, NodeTime]
    copies: tuple[Copy, ...]
    residuals: tuple[Residual, ...]
    model: Model | None
    total_ms: float | None
    lost_ms: float = 0.0

    @property
    def hidden(self) -> list[Timed]:
        """Layers whose nodes the file does not tell."""
        copies = {copy.layer for copy in self.copies}
        return [t for t in self.timed if t.said.hidden and t.layer.name not in copies]

    @property
    def own(self) -> list[Timed]:
        """Layers that TensorRT made itself: no node of the model, and no conversion."""
        copies = {copy.layer for copy in self.copies}
        return [t for t in self.timed
                if not (t.said.nodes or t.said.hidden or t.layer.name in copies)]  # fmt: skip

    @property
    def weighted(self) -> list[Timed]:
        """Layers that multiply by weights."""
        return [t for t in self.timed if t.layer.weighted]

    def coverage(self) -> dict[str, Any]:
        """How much runs in which type: weighted layers, their time, and what was meant.

        meant, covered, unknown: nodes whose Q/DQ asks for a type, those that run in it, and those
        of which nobody can tell; None without a model.
        """
        types = Counter(t.layer.precision for t in self.weighted)
        low = sum(n for kind, n in types.items() if kind in LOW)
        found: dict[str, Any] = {
            "weighted_layers": sum(types.values()),
            "low_precision_layers": low,
            "precisions": dict(types.most_common()),
            "low_precision_ms": self._sum(t for t in self.weighted if t.layer.precision in LOW),
            "meant": None, "covered": None, "unknown": None,
        }  # fmt: skip
        if self.model is not None:
            meant, nodes = self.model.meant, self.nodes
            told = [n for n in meant if n in nodes and nodes[n].precision != "?"]
            found["meant"] = len(meant)
            found["covered"] = sum(nodes[n].precision == meant[n] for n in told)
            found["unknown"] = len(meant) - len(told)
        return found

    def runs(self) -> dict[str, dict[str, Any]]:
        """What each node ran in: its entry of `as_dict`, with how many conversions are there for
        its sake and how long they take together; None without a profile."""
        told = {}
        for name, node in self.nodes.items():
            own = [copy for copy in self.copies if name in copy.cause]
            told[name] = {
                **self._node(node),
                "conversions": len(own),
                "conversion_ms": self._sum(own),
            }
        return told

    def _sum(self, layers: Any) -> float | None:
        return None if self.total_ms is None else math.fsum(t.ms or 0 for t in layers)

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        hidden = self.hidden
        return {
            "total_ms": self.total_ms,
            "lost_ms": self.lost_ms,
            "detailed": self.info.detailed,
            "layers": len(self.timed),
            "hidden_layers": len(hidden),
            "hidden_ms": self._sum(hidden),
            "own_ms": self._sum(self.own),
            "coverage": self.coverage(),
            "nodes": {name: self._node(node) for name, node in self.nodes.items()},
            "reformats": [asdict(copy) for copy in self.copies],
            "reformat_ms": None if self.total_ms is None else math.fsum(
                copy.ms or 0 for copy in self.copies),
            "residuals": [asdict(residual) for residual in self.residuals],
        }  # fmt: skip

    def _node(self, node: NodeTime) -> dict[str, Any]:
        share = node.ms / self.total_ms if self.total_ms and node.ms is not None else None
        return {**asdict(node), "share": share}


def read(
    info: LayerInfo, profile: Profile | None = None, model: Model | None = None
) -> EngineReading:
    """What the layers, their times and the model say together.

    Raises OnnxqError for a profile or a model of another engine.
    """
    known = model.ops if model is not None else None
    names = [named(x.name, x.metadata, known) for x in info.layers]
    times: list[float | None] = [None] * len(info.layers)
    lost = 0.0
    if profile is not None:
        times, lost = joined(info.layers, profile)
    timed = tuple(map(Timed, info.layers, names, times))
    copies = copies_of(info.layers, names, times, info.bindings)
    return EngineReading(
        info,
        timed,
        _nodes(timed, model, {copy.layer for copy in copies}),
        tuple(copies),
        tuple(_residuals(timed, copies)),
        model,
        None if profile is None else profile.total_ms,
        lost,
    )


def _nodes(
    timed: Sequence[Timed], model: Model | None, copies: Container[str]
) -> dict[str, NodeTime]:
    found: dict[str, NodeTime] = {}
    meant = model.meant if model else {}
    for t in timed:
        ms = parts_of(t, model)
        if t.layer.name in copies and t.ms is not None:
            ms = dict.fromkeys(ms, 0.0)  # it counts among the conversions
        for node in t.said.nodes:
            if node in found and not (t.layer.weighted or ms.get(node)):
                continue  # a copy of what ran elsewhere already
            others = tuple(n for n in t.said.nodes if n != node)
            own = ms.get(node)
            if node in found and own is not None:
                own += found[node].ms or 0.0
            found[node] = NodeTime(
                t.layer.name, t.layer.precision, meant.get(node, ""), own, t.ms, others
            )
    return found


def parts_of(timed: Timed, model: Model | None = None) -> dict[str, float | None]:
    """The time of a layer shared by its nodes."""
    nodes = timed.said.nodes
    products = [n for n in nodes if is_product(n, model)]
    work = products or [n for n in nodes if not is_quantizer(n)] or list(nodes)
    if timed.ms is None:
        return dict.fromkeys(nodes)
    return {n: timed.ms / len(work) if n in work else 0.0 for n in nodes}


def is_product(node: str, model: Model | None = None) -> bool:
    """Whether a node multiplies, by its op, or by its name where the model is not known."""
    if model is not None and node in model.ops:
        return model.ops[node] in (*WEIGHTED, "Einsum")
    return PRODUCT.search(node) is not None


def _residuals(timed: Sequence[Timed], copies: Sequence[Copy]) -> list[Residual]:
    """Adds that stand in a product's layer and add a second tensor to it."""
    by_layer = {copy.layer: copy for copy in copies}
    readers = readers_of([t.layer for t in timed])
    writers = {p.name: t for t in timed for p in t.layer.outputs}
    found = []
    for t in timed:
        adds = [n for n in t.said.nodes if ADD.search(n)]
        if not (adds and t.layer.weighted and len(t.layer.inputs) > 1 and t.layer.outputs):
            continue
        skip, out = t.layer.inputs[1], t.layer.outputs[0]
        behind = [by_layer.get(timed[i].layer.name) for i in readers[out.name]]
        before = by_layer.get(writers[skip.name].layer.name) if skip.name in writers else None
        turning = [c for c in behind if c and c.kind == "quantize"]
        turning += [before] if before and before.kind in TURNS else []
        ms = None if t.ms is None else math.fsum(c.ms or 0 for c in turning)
        found.append(Residual(adds[-1], skip.type, out.type, t.ms, ms))
    return found
