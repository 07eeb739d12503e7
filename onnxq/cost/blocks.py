"""Whether few bits pay, block by block: regions of a graph between cuts that one tensor crosses.

    least over states of  sum over blocks  ms[state]  +  sum over cuts  ms[state before, after]

A node that is faster in few bits may still not pay, for what is converted around it; so whole
blocks are float or quantized, and what is converted where two of different states meet counts.
Blocks stand in a row, so the least is found exactly, state by state. A cut within a kernel is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnxq.model.graph import Graph, constant_of
from onnxq.run.segments import reads
from onnxq.words import count

WORTH = 0.01  # share of the float model's time; less is no gain


@dataclass(frozen=True)
class Cut:
    """Between two blocks, in milliseconds. quantize: what converting the tensor takes where the
    block before is float and the one behind is not. widen: how much longer it takes to write it in
    float, where it is the other way round."""

    quantize: float
    widen: float


@dataclass(frozen=True)
class Block:
    """A region: its nodes, its milliseconds in float and in few bits, and whether few bits pay."""

    nodes: tuple[str, ...]
    float_ms: float
    quantized_ms: float
    pays: bool = False


@dataclass(frozen=True)
class Pays:
    """Whether few bits pay.

    float_ms, quantized_ms: of the whole model in float, and with everything quantized; best_ms:
    with the blocks that pay. high, low: the types. predicted: whether the times are a model's, of
    a profile of one engine, or were measured in two.
    """

    float_ms: float
    quantized_ms: float
    best_ms: float
    high: str
    low: str
    predicted: bool
    blocks: tuple[Block, ...]

    @property
    def worth(self) -> bool:
        """Whether anything pays."""
        enough = self.best_ms < (1 - WORTH) * self.float_ms
        return enough and any(block.pays for block in self.blocks)

    @property
    def floats(self) -> list[str]:
        """The nodes of the blocks that do not pay."""
        return [n for block in self.blocks if not block.pays for n in block.nodes]

    @property
    def headline(self) -> str:
        """The answer in one line."""
        kind = "predicted " if self.predicted else ""
        floats = f"{self.float_ms:.4g} ms in {self.high}"
        everything = f"{self.quantized_ms:.4g} ms{self._change(self.quantized_ms)}"
        if not self.worth:
            return f"{self.low} does not pay: {kind}{everything} with all quantized, {floats}; " \
                   f"leave it {self.high}"  # fmt: skip
        paying = sum(block.pays for block in self.blocks)
        if paying == len(self.blocks):
            return f"{self.low} pays throughout: {kind}{everything}, {floats}"
        return (
            f"{self.low} pays in {paying} of {count(len(self.blocks), 'block')}: {kind}"
            f"{self.best_ms:.4g} ms{self._change(self.best_ms)} with the others in {self.high}, "
            f"{floats}, {everything} with all quantized"
        )

    def _change(self, ms: float) -> str:
        return f" ({100 * (ms / self.float_ms - 1):+.0f}%)" if self.float_ms else ""


def regions(
    graph: Graph, quantized: Iterable[str], kernels: Iterable[Iterable[str]]
) -> list[tuple[tuple[str, ...], str]]:
    """(nodes, the tensor that leads into them) of each region of a graph, in order; "" leads into
    the first.

    Every region has a node that is `quantized` by a plan, and each of `kernels`, which are nodes
    that run as one, lies in one of them.
    """
    place = {node.name: p for p, node in enumerate(graph.nodes)}
    crossing = _crossing(graph)
    for nodes in kernels:
        at = [place[n] for n in nodes if n in place]
        for p in range(min(at, default=0), max(at, default=0)):
            crossing.pop(p, None)
    chosen = {place[n] for n in quantized if n in place}
    found: list[tuple[tuple[str, ...], str]] = []
    start, lead = 0, ""
    for p in sorted(crossing):
        behind = any(q > p for q in chosen)
        if behind and any(start <= q <= p for q in chosen):
            found.append((tuple(n.name for n in graph.nodes[start : p + 1]), lead))
            start, lead = p + 1, crossing[p]
    return [*found, (tuple(n.name for n in graph.nodes[start:]), lead)]


def _crossing(graph: Graph) -> dict[int, str]:
    """Position after a node -> the tensor that crosses it, where it is one alone."""
    read = [[t for t in reads(n) if constant_of(t) is None] for n in graph.nodes]
    last = {t.name: p for p, tensors in enumerate(read) for t in tensors}
    live = {t.name for t in graph.inputs if t.name in last}
    found = {}
    for p, node in enumerate(graph.nodes):
        live |= {t.name for t in node.outputs if last.get(t.name, -1) > p}
        live -= {name for name in live if last[name] <= p}
        if len(live) == 1:
            (found[p],) = live
    return found


def paying(blocks: Sequence[Block], cuts: Sequence[Cut]) -> tuple[list[Block], float]:
    """The blocks with what pays marked, and the least milliseconds; cuts[i] is before block i."""
    # state of the last block -> milliseconds so far, states so far
    states: dict[bool, tuple[float, tuple[bool, ...]]] = {False: (0.0, ())}
    for block, cut in zip(blocks, cuts, strict=True):
        reached: dict[bool, tuple[float, tuple[bool, ...]]] = {}
        for now in (False, True):
            own = block.quantized_ms if now else block.float_ms
            reached[now] = min(
                (ms + own + (_between(cut, before, now) if path else 0.0), (*path, now))
                for before, (ms, path) in states.items()
            )
        states = reached
    ms, path = min(states.values())
    marked = [
        Block(b.nodes, b.float_ms, b.quantized_ms, pays)
        for b, pays in zip(blocks, path, strict=True)
    ]
    return marked, ms


def _between(cut: Cut, before: bool, now: bool) -> float:
    if before == now:
        return 0.0
    return cut.quantize if now else cut.widen
