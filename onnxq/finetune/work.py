"""What a step on a block takes: products and what quantizers do with each value, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from onnxq.finetune.block_model import BlockModel
from onnxq.finetune.blocks import Block
from onnxq.finetune.interpreter import Live
from onnxq.finetune.windows import drawn_view
from onnxq.run.macs import macs
from onnxq.run.segments import Shapes

TIMES = 3  # a step is forward, and backward for inputs and for weights
BYTES = 32  # that gradients hold of a value: it, and what quantizing it makes
PER_VALUE = 50  # multiply-accumulates that rounding a value and its gradients take, about

PAYS = 0.8  # of the work of all, for which a step looks through a window


@dataclass(frozen=True)
class Load:
    """What a step on one sample takes in one block: multiply-accumulates, and bytes.

    shapes: of the block's tensors, by which a step draws its window; None where it looks at all.
    """

    work: float
    bytes: int
    shapes: Shapes | None = None


def loads(models: Sequence[BlockModel], first: Live) -> list[Load]:
    """The load of each block; first: the inputs of a sample like all others."""
    live, found = dict(first), []
    with torch.no_grad():
        for model in models:
            nodes = model.block.segment.nodes
            every = tuple(t.name for node in nodes for t in node.outputs if t.name)
            run = replace(model.run_float, keep=every)
            values = run.run({n: live[n] for n in model.block.segment.inputs})
            shapes = {n: tuple(x.shape) for n, x in (live | values).items()}
            floats = [n for n, x in values.items() if x.is_floating_point()]
            found.append(_load(model.block, shapes, floats))
            live |= {n: values[n] for n in model.block.segment.outputs}
    return found


def _load(block: Block, shapes: Shapes, floats: Sequence[str]) -> Load:
    """The load of a block, through windows where that is much less."""
    nodes = block.segment.nodes

    def load(its: Shapes) -> Load:
        values = sum(prod(its[n]) for n in floats)
        return Load(PER_VALUE * values + TIMES * sum(macs(n, its) for n in nodes), BYTES * values)

    whole = load(shapes)
    view = drawn_view(block.segment, shapes, np.random.default_rng(0))
    part = whole if view is None else load(view.shapes(shapes))
    return replace(part, shapes=shapes) if part.work < PAYS * whole.work else whole
