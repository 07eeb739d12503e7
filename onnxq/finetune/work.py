"""What a step on a block takes: products and what quantizers do with each value, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from onnxq.finetune.block_model import BlockModel
from onnxq.finetune.interpreter import Live
from onnxq.run.macs import macs

TIMES = 3  # a step is forward, and backward for inputs and for weights
BYTES = 32  # that gradients hold of a value: it, and what quantizing it makes
PER_VALUE = 50  # multiply-accumulates that rounding a value and its gradients take, about


@dataclass(frozen=True)
class Load:
    """What a step on one sample takes in one block: multiply-accumulates, and bytes."""

    work: float
    bytes: int


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
            floats = [x.numel() for x in values.values() if x.is_floating_point()]
            work = PER_VALUE * sum(floats) + TIMES * sum(macs(n, shapes) for n in nodes)
            found.append(Load(work, BYTES * sum(floats)))
            live |= {n: values[n] for n in model.block.segment.outputs}
    return found
