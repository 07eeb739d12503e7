"""How much work a step on a block is: products, and what quantizers do with each value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from onnxq.finetune.block_model import BlockModel
from onnxq.finetune.interpreter import Live
from onnxq.run.macs import macs

TIMES = 3  # a step is forward, and backward for inputs and for weights
PER_VALUE = 50  # multiply-accumulates that rounding a value and its gradients take, about


def work(models: Sequence[BlockModel], first: Live) -> float:
    """Multiply-accumulates of a step on one sample, of all blocks together.

    first: the inputs of a sample like all others.
    """
    live, total = dict(first), 0.0
    with torch.no_grad():
        for model in models:
            nodes = model.block.segment.nodes
            every = tuple(t.name for node in nodes for t in node.outputs if t.name)
            run = replace(model.run_float, keep=every)
            values = run.run({n: live[n] for n in model.block.segment.inputs})
            shapes = {n: tuple(x.shape) for n, x in (live | values).items()}
            floats = [x.numel() for x in values.values() if x.is_floating_point()]
            total += PER_VALUE * sum(floats) + TIMES * sum(macs(n, shapes) for n in nodes)
            live |= {n: values[n] for n in model.block.segment.outputs}
    return total
