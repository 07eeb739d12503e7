"""A graph, or consecutive nodes of one, run by torch: a table op -> function, nothing else.

So gradients flow, and a weight may be anything that is computed. What the table lacks is named
before anything runs. Its oracle is ONNX Runtime on the ONNX project's own tests of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from onnxq.arrays import Array
from onnxq.errors import ModelError
from onnxq.finetune import resizing
from onnxq.finetune.call import Call, Function
from onnxq.finetune.elementwise import ELEMENTWISE, torch_type
from onnxq.finetune.layers import LAYERS
from onnxq.finetune.moving import MOVING
from onnxq.model.graph import Graph, Node, constant_of, is_standard

RESIZING: dict[str, Function] = {"Resize": resizing.resize, "Upsample": resizing.upsample}
SEVERAL = ("Split", "TopK")  # ops whose outputs there are all of
OPS: dict[str, Function] = {**ELEMENTWISE, **LAYERS, **MOVING, **RESIZING}
Live = dict[str, torch.Tensor]
Change = Callable[[Node, int, torch.Tensor], torch.Tensor]
Cut = tuple[slice, ...]
SHAPES = ("i", "u", "b")  # kinds of types that decide shapes, and stay on the CPU


def call_of(node: Node) -> Call:
    """What a function is told of a node."""
    return Call(node.op, node.name, node.attrs, len(node.outputs))


def lacking(nodes: Iterable[Node], keep: Collection[str] = ()) -> dict[str, str]:
    """Node -> what of it there is no function for; keep: outputs that are asked for."""
    found = {}
    for node in nodes:
        if node.op not in OPS or not is_standard(node):
            domain = "" if is_standard(node) else f"{node.domain}."
            found[node.name] = f"op {domain}{node.op}"
        elif why := _attributes(node, keep):
            found[node.name] = f"{node.op} with {why}"
    return found


def _attributes(node: Node, keep: Collection[str]) -> str | None:
    """What of a known op there is no function for."""
    call = call_of(node)
    extra = [t for t in node.outputs[1:] if t.name and (t.outputs or t.name in keep)]
    if extra and node.op not in SEVERAL:
        return f"output '{extra[0].name}'"
    if node.op in RESIZING:
        return resizing.lacks(call)
    if node.op in ("Cast", "ConstantOfShape"):
        try:
            torch_type(call.get("to", 1))
        except KeyError:
            return f"type {call.get('to')}"
    if node.op == "MaxPool" and call.get("storage_order", 0):
        return "storage_order 1"
    if _trains(node):
        return "training_mode"
    return None


def _trains(node: Node) -> bool:
    """Whether a node may do something else in training than what it does."""
    if node.op == "Dropout" and len(node.inputs) > 2 and node.inputs[2].name:
        training = constant_of(node.inputs[2])
        return training is None or bool(training.any())
    return node.op == "BatchNormalization" and bool(node.attrs.get("training_mode", 0))


def refuse_lacking(graph: Graph) -> None:
    """Raises ModelError for a graph with nodes that there is no function for; it names the first
    and says how many there are."""
    found = lacking(graph.nodes, [t.name for t in graph.outputs])
    if not found:
        return
    name, what = next(iter(found.items()))
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    raise ModelError(
        f"finetune has no function for '{name}' ({what}){more}; quantize the model by "
        "'onnxq quantize --recover all', or cut the graph before it"
    )


@dataclass(frozen=True)
class Seen:
    """How a node is run where part of its tensors is there: what it takes of its inputs, and what
    is kept of its outputs; None: all."""

    cuts: tuple[Cut | None, ...]
    call: Call
    function: Function
    kept: tuple[Cut | None, ...]


@dataclass(frozen=True)
class Interpreter:
    """Nodes in the order in which they run.

    keep: names of what is returned. constants: what nodes read that is in no other tensor.
    """

    nodes: tuple[Node, ...]
    keep: tuple[str, ...]
    device: str = "cpu"
    constants: Live = field(default_factory=dict, repr=False)

    @staticmethod
    def of(nodes: Sequence[Node], keep: Collection[str], device: str = "cpu") -> Interpreter:
        """The interpreter of nodes that are in topological order."""
        constants: Live = {}
        for tensor in (t for node in nodes for t in node.inputs):
            if tensor.name and tensor.name not in constants:
                values = constant_of(tensor)
                if values is not None:
                    constants[tensor.name] = to_torch(values, device)
        return Interpreter(tuple(nodes), tuple(keep), device, constants)

    def run(
        self,
        inputs: Mapping[str, torch.Tensor],
        change: Change | None = None,
        shifts: Mapping[str, torch.Tensor] | None = None,
        seen: Mapping[str, Seen] | None = None,
    ) -> Live:
        """The tensors `keep` from those that the nodes read.

        change: what becomes of (node, number of the input, its value) before the node reads it.
        shifts: what is added to tensors that the nodes write. seen: how nodes are run that see part
        of their tensors. Tensors are let go after the node that reads them last.
        """
        live = dict(inputs)
        last = self._last_reads()
        for place, node in enumerate(self.nodes):
            values = [self._value(live, t.name) for t in node.inputs]
            if change is not None:
                values = [v if v is None else change(node, i, v) for i, v in enumerate(values)]
            out = self._computed(node, values, seen[node.name] if seen else None)
            named = zip((t.name for t in node.outputs), out, strict=False)
            live |= {name: value for name, value in named if name}
            for tensor in node.outputs:
                if shifts and tensor.name in shifts:
                    live[tensor.name] = live[tensor.name] + shifts[tensor.name]
            for name in last.get(place, ()):
                live.pop(name, None)
        return {name: live[name] for name in self.keep}

    def _value(self, live: Live, name: str) -> torch.Tensor | None:
        if not name:
            return None
        return live[name] if name in live else self.constants[name]

    def _computed(
        self, node: Node, values: Sequence[torch.Tensor | None], seen: Seen | None
    ) -> Sequence[torch.Tensor]:
        try:
            if seen is None:
                out = OPS[node.op](call_of(node), *values)
            else:
                out = seen.function(seen.call, *map(_taken, values, seen.cuts))
        except (RuntimeError, ValueError, TypeError, IndexError) as e:
            if isinstance(e, torch.OutOfMemoryError) or "not enough memory" in str(e):
                raise MemoryError(str(e)) from e
            said = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise ModelError(f"finetune cannot run '{node.name}' ({node.op}): {said}") from e
        several = out if isinstance(out, tuple) else (out,)
        if seen is None:
            return several
        return [x[cut] if cut else x for x, cut in zip(several, seen.kept, strict=False)]

    def _last_reads(self) -> dict[int, list[str]]:
        """Place of a node -> the tensors that no later node reads and nobody keeps."""
        last = {t.name: p for p, node in enumerate(self.nodes) for t in node.inputs if t.name}
        found: dict[int, list[str]] = {}
        for name, place in last.items():
            if name not in self.keep:
                found.setdefault(place, []).append(name)
        return found


def _taken(value: torch.Tensor | None, cut: Cut | None) -> torch.Tensor | None:
    return value if value is None or cut is None else value[cut]


def to_torch(values: Array, device: str = "cpu") -> torch.Tensor:
    """An array as a tensor of its own: floats on the device, what decides shapes on the CPU."""
    array = np.ascontiguousarray(values).reshape(np.shape(values))
    tensor = torch.from_numpy(array.copy())
    return tensor if array.dtype.kind in SHAPES else tensor.to(device)
