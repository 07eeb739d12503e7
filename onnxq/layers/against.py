"""Two engines of one network side by side: what got slower, and why.

Engines fuse differently, so what is compared are groups: the fewest nodes that make up whole
layers in both. The kernels that only convert a tensor count with the nodes for whose sake they are
there. Where names differ, as when Q/DQ have renumbered the nodes, products are matched by what they
multiply (kernel, stride, channels, shapes); of several alike the k-th is the k-th.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxq.errors import OnnxqError
from onnxq.layers.info import LOW
from onnxq.layers.names import is_quantizer
from onnxq.layers.reading import EngineReading, Timed, is_product
from onnxq.model.patterns import exactly

REST = "layers that cannot be matched"
SAME = 0.5  # share of the products by which names are taken to be the same


@dataclass
class Side:
    """A group in one engine: milliseconds of its layers, of the copies among them, and types."""

    ms: float = 0.0
    copy_ms: float = 0.0
    copies: int = 0
    precisions: set[str] = field(default_factory=set)
    layers: int = 0

    @property
    def types(self) -> str:
        """The types of its products, or of its layers without one."""
        return " + ".join(sorted(self.precisions)) or "-"


@dataclass(frozen=True)
class Group:
    """Nodes that are whole layers in both engines."""

    nodes: tuple[str, ...]
    a: Side
    b: Side

    @property
    def change_ms(self) -> float:
        """How much longer they take in the second engine."""
        return self.b.ms - self.a.ms

    @property
    def why(self) -> str:
        """What is different, in words; "" where nothing that the files tell is."""
        said = []
        if self.a.types != self.b.types:
            said.append(f"{self.a.types} -> {self.b.types}")
        if self.a.copies != self.b.copies:
            ms = self.b.copy_ms - self.a.copy_ms
            said.append(f"{self.b.copies - self.a.copies:+d} conversions ({ms:+.4f} ms)")
        if self.a.layers != self.b.layers:
            said.append(f"{self.a.layers} -> {self.b.layers} kernels")
        return ", ".join(said)


@dataclass(frozen=True)
class EngineComparison:
    """groups: those that change most first. by: "names" or "geometry"."""

    a: EngineReading
    b: EngineReading
    groups: tuple[Group, ...]
    by: str

    @property
    def speedup(self) -> float:
        """Time of the first over time of the second."""
        return _total(self.a) / _total(self.b) if _total(self.b) else math.inf

    @property
    def slower(self) -> list[str]:
        """Products that run in fewer bits in the second engine than in the first, and take longer
        with the conversions around them: what to leave float. Names are those of the second."""
        return [
            node
            for group in self.groups
            if group.change_ms > 0 and group.b.precisions & set(LOW) and
            not group.a.precisions & set(LOW)
            for node in group.nodes if is_product(node, self.b.model)
        ]  # fmt: skip

    def skip_list(self) -> str:
        """The text of a file for `--skip @FILE`: what is slower in fewer bits."""
        return "".join(f"{exactly(name)}\n" for name in self.slower)

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
            "matched_by": self.by,
            "speedup": self.speedup,
            "slower_in_b": self.slower,
            "groups": [
                {"nodes": list(g.nodes), "a": _side(g.a), "b": _side(g.b),
                 "change_ms": g.change_ms, "why": g.why}
                for g in self.groups
            ],
        }  # fmt: skip


def compare(a: EngineReading, b: EngineReading) -> EngineComparison:
    """The two engines, group by group; raises OnnxqError where one has no times, or where neither
    names nor geometry match anything."""
    for reading in (a, b):
        if reading.total_ms is None:
            raise OnnxqError(f"'{reading.info.path}' has no times; give a --profile for each of "
                             "the two, in their order")  # fmt: skip
    products = [{n for t in r.timed for n in _own(t) if is_product(n, r.model)} for r in (a, b)]
    by, renamed = "names", {}
    if len(products[0] & products[1]) < SAME * max(1, min(map(len, products))):
        by, renamed = "geometry", _by_geometry(a, b)
        if not renamed:
            raise OnnxqError(f"'{a.info.path}' and '{b.info.path}' have no product in common, by "
                             "name or by shapes: they are engines of two networks")  # fmt: skip
    return EngineComparison(a, b, tuple(_groups(a, b, renamed, by)), by)


def _by_geometry(a: EngineReading, b: EngineReading) -> dict[str, str]:
    """Node of the first engine -> node of the second that multiplies the same."""
    sides: list[dict[object, list[str]]] = []
    for reading in (a, b):
        alike: dict[object, list[str]] = defaultdict(list)
        for t in reading.weighted:
            products = [n for n in _own(t) if is_product(n, reading.model)]
            if t.layer.geometry and products:
                alike[t.layer.geometry].append(products[0])
        sides.append(alike)
    first, second = sides
    # of a different number of products alike nobody can tell which is which
    pairs = [zip(ns, second[k], strict=True) for k, ns in first.items()
             if len(ns) == len(second.get(k, ()))]  # fmt: skip
    return {n: m for pair in pairs for n, m in pair}


def _groups(
    a: EngineReading, b: EngineReading, renamed: Mapping[str, str], by: str
) -> Iterable[Group]:
    keys = [_keyed(a, renamed, by), _keyed(b, {}, by)]
    if by == "geometry":
        known = set(renamed.values())
        keys = [[(t, tuple(n for n in ns if n in known)) for t, ns in side] for side in keys]
    union = _Union()
    for side in keys:
        for _, nodes in side:
            union.join(nodes)
    both = [{union.root(ns[0]) for _, ns in side if ns} for side in keys]
    sides: dict[str, tuple[Side, Side]] = defaultdict(lambda: (Side(), Side()))
    for number, side in enumerate(keys):
        for timed, nodes in side:
            root = union.root(nodes[0]) if nodes else REST
            root = root if root in both[1 - number] else REST
            _add(sides[root][number], timed)
    members = union.members()
    found = [
        Group(tuple(members.get(root, (root,))), *pair)
        for root, pair in sides.items() if pair[0].ms or pair[1].ms
    ]  # fmt: skip
    return sorted(found, key=lambda g: -abs(g.change_ms))


def _keyed(
    reading: EngineReading, renamed: Mapping[str, str], by: str
) -> list[tuple[Timed, tuple[str, ...]]]:
    """Each layer with the nodes that it counts with."""
    causes = {copy.layer: copy.cause for copy in reading.copies}
    found = []
    for t in reading.timed:
        nodes = [renamed.get(n, n) for n in _own(t)]
        if not nodes and (cause := causes.get(t.layer.name, t.said.beside)):
            # a conversion counts with one of those that it is for, and does not join them
            nodes = [renamed.get(n, n) for n in cause if not is_quantizer(n)]
            products = [n for n in nodes if is_product(n)]
            nodes = (products or nodes)[:1]
        found.append((t, tuple(nodes)))
    return found


def _own(t: Timed) -> list[str]:
    """The nodes of a layer but for those that quantize."""
    return [n for n in t.said.nodes if not is_quantizer(n)]


def _add(side: Side, timed: Timed) -> None:
    ms = timed.ms or 0.0
    side.ms += ms
    if timed.layer.copies:
        side.copies += timed.layer.kind != "NoOp"
        side.copy_ms += ms
        return
    side.layers += 1
    if timed.layer.weighted or not side.precisions:
        side.precisions.add(timed.layer.precision)


def _side(side: Side) -> dict[str, Any]:
    return {**asdict(side), "precisions": sorted(side.precisions)}


def _total(reading: EngineReading) -> float:
    return reading.total_ms or 0.0


class _Union:
    """Sets of names, joined."""

    def __init__(self) -> None:
        self.above: dict[str, str] = {}

    def root(self, name: str) -> str:
        """The name that stands for a set."""
        self.above.setdefault(name, name)
        while self.above[name] != name:
            self.above[name] = name = self.above[self.above[name]]
        return name

    def join(self, names: Sequence[str]) -> None:
        """Make one set of the sets of these."""
        for name in names:
            self.above[self.root(name)] = self.root(names[0])

    def members(self) -> dict[str, list[str]]:
        """Root -> the names of its set, in the order in which they were seen."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in list(self.above):
            found[self.root(name)].append(name)
        return found
