"""Fold a Pad of zeros into the Convs that read it.

    Pad(x, zeros beside the spatial axes) -> Conv(pads p)   =>   Conv(x, pads p + those of the Pad)

TensorFlow, Keras and "same" padding export this. A Pad that stays is a kernel of its own, and a
tensor written and read once more; ONNX Runtime then also finds no integer Conv behind the Q/DQ.
"""

from __future__ import annotations

import logging

import numpy as np

from onnxq.model.graph import Graph, Node, constant_of, is_output, is_standard
from onnxq.passes.affine import NotExact

log = logging.getLogger(__name__)


def fold_pads(graph: Graph) -> int:
    """Fold the Pads that only Convs read; how many went."""
    count = 0
    for pad in graph.nodes:
        if pad.op != "Pad" or not is_standard(pad):
            continue
        try:
            _fold(graph, pad)
        except NotExact as reason:
            log.info("Pad '%s' kept: %s", pad.name, reason)
        else:
            count += 1
    if count:
        graph.cleanup()
    return count


def _fold(graph: Graph, pad: Node) -> None:
    x, out = pad.inputs[0], pad.outputs[0]
    convs = list({id(node): node for node in out.outputs}.values())
    if is_output(graph, out) or not convs:
        raise NotExact("its output is an output of the graph")
    _check_zeros(pad)
    pads = [_sum_of_pads(pad, conv) for conv in convs]
    for conv, total in zip(convs, pads, strict=True):
        conv.attrs["pads"] = total
        conv.attrs.pop("auto_pad", None)
        conv.inputs[0] = x
    pad.inputs.clear()
    pad.outputs.clear()


def _check_zeros(pad: Node) -> None:
    if pad.attrs.get("mode", "constant") != "constant":
        raise NotExact(f"it pads by '{pad.attrs['mode']}', a Conv by zeros")
    if len(pad.inputs) > 2 and not pad.inputs[2].is_empty():
        value = constant_of(pad.inputs[2])
        if value is None or np.any(value != 0):
            raise NotExact("it pads with another value than 0")


def _sum_of_pads(pad: Node, conv: Node) -> list[int]:
    """The pads of `conv` with those of `pad` added; raises NotExact."""
    out = pad.outputs[0]
    if conv.op != "Conv" or not is_standard(conv) or list(conv.inputs).count(out) != 1:
        raise NotExact(f"{conv.op} '{conv.name}' reads it too")
    weight = conv.inputs[1]
    if conv.inputs[0] is not out or weight.shape is None:
        raise NotExact(f"Conv '{conv.name}' has weights of unknown rank")
    spatial = len(weight.shape) - 2
    if conv.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise NotExact(f"Conv '{conv.name}' finds its pads by itself")
    begin, end = _of_each_axis(pad, spatial + 2)
    if any((*begin[:2], *end[:2])) or min((*begin, *end)) < 0:
        raise NotExact("it pads samples or channels, or crops")
    own = [0] * (2 * spatial)
    if conv.attrs.get("auto_pad", "NOTSET") == "NOTSET":
        own = list(conv.attrs.get("pads", own))
    return [a + b for a, b in zip(own, (*begin[2:], *end[2:]), strict=True)]


def _of_each_axis(pad: Node, rank: int) -> tuple[list[int], list[int]]:
    """How much a Pad adds before and behind each of `rank` axes; raises NotExact."""
    pads = constant_of(pad.inputs[1]) if len(pad.inputs) > 1 else None
    axes = np.arange(rank)
    if len(pad.inputs) > 3 and not pad.inputs[3].is_empty():
        given = constant_of(pad.inputs[3])
        pads = None if given is None else pads
        axes = axes if given is None else given % rank
    if pads is None or pads.size != 2 * len(axes):
        raise NotExact("how much it pads is not constant")
    begin, end = [0] * rank, [0] * rank
    for i, axis in enumerate(axes.tolist()):
        begin[axis], end[axis] = int(pads[i]), int(pads[len(axes) + i])
    return begin, end
