"""One block as torch runs it: in float, and with fake quantizers on the plan's edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from onnxq.errors import PlanError
from onnxq.finetune.blocks import Block, group_of
from onnxq.finetune.interpreter import Interpreter, Live
from onnxq.finetune.learned import Group, Learned, present
from onnxq.finetune.quantizers import Grid, fake_quant, fixed
from onnxq.finetune.windows import View
from onnxq.model.graph import Node, constant_of
from onnxq.numerics import grid_of
from onnxq.passes.insert_qdq import InsertOptions, Weight
from onnxq.plan import Plan
from onnxq.recover.draft import Draft
from onnxq.recover.sites import Site
from onnxq.spec import Edge

Draw = Callable[[torch.Tensor], torch.Tensor]  # 1 for each value that stays in float, else 0


@dataclass(frozen=True)
class Values:
    """What quantizers work with: each weight as it is rounded, the share of each range, what is
    added to each biased tensor."""

    weights: Mapping[Weight, torch.Tensor]
    shares: Mapping[Group, torch.Tensor | float]
    shifts: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class BlockModel:
    """A block with its quantizers.

    constants: edges that read weights. grids: edges that read activations, with their scales as
    they stand and the tensors that share them.
    """

    block: Block
    run_float: Interpreter
    constants: Mapping[Edge, Weight]
    grids: Mapping[Edge, tuple[Group, Grid]]
    start: Mapping[Weight, torch.Tensor]

    @staticmethod
    def of(
        block: Block, plan: Plan, draft: Draft, options: InsertOptions, device: str
    ) -> BlockModel:
        """The model of a block; raises PlanError for an activation without a range."""
        assert draft.ranges is not None
        constants: dict[Edge, Weight] = {}
        grids: dict[Edge, tuple[Group, Grid]] = {}
        start: dict[Weight, torch.Tensor] = {}
        for node in block.segment.nodes:
            for i, spec in plan.by_node.get(node.name, {}).items():
                tensor, edge = node.inputs[i], Edge(node.name, i)
                values = constant_of(tensor)
                if values is None:
                    source = plan.source.get(tensor.name, tensor.name)
                    if source not in draft.ranges.tensors:
                        raise PlanError(f"no range for tensor '{source}'; calibrate the model anew")
                    scale, zero = grid_of(draft.ranges[source].limit, spec)
                    grid = Grid(float(scale), zero, spec)
                    grids[edge] = group_of(plan, tensor.name), grid
                    continue
                weight = constants[edge] = tensor.name, spec
                if weight not in start:
                    codes = present(draft, options, weight, values)
                    start[weight] = fixed(codes, spec, device)
        run = Interpreter.of(block.segment.nodes, block.segment.outputs, device)
        return BlockModel(block, run, constants, grids, start)

    def standing(self, learned: Learned, draft: Draft) -> Values:
        """The quantizers with what is learned, and as the draft has the rest."""
        device = self.run_float.device
        weights = dict(self.start)
        for weight in weights:
            if weight in learned.codes:
                weights[weight] = fixed(learned.codes[weight], weight[1], device)
        shifts = {**draft.shifts, **learned.shifts}
        here = {node.name for node in self.block.segment.nodes}
        return Values(
            weights,
            learned.shares,
            {s.biased: wide(torch.from_numpy(x).to(device), s)
             for s, x in shifts.items() if s.holder in here},
        )  # fmt: skip

    def exact(self, inputs: Live) -> Live:
        """The block in float."""
        return self.run_float.run(inputs)

    def quantized(
        self, inputs: Live, values: Values, draw: Draw | None = None, view: View | None = None
    ) -> Live:
        """The block with its quantizers; draw: which values of an activation stay in float. view:
        what part of it is run, where the inputs are that of it."""
        made: dict[tuple[str, str], torch.Tensor] = {}
        seen = None if view is None else view.steps

        def change(node: Node, i: int, x: torch.Tensor) -> torch.Tensor:
            edge = Edge(node.name, i)
            if edge in self.constants:
                return values.weights[self.constants[edge]]
            if edge not in self.grids:
                return x
            group, grid = self.grids[edge]
            key = node.inputs[i].name, str(grid.spec)
            if key not in made:
                share = values.shares.get(group, 1.0)
                scale = torch.as_tensor(grid.scale * share, dtype=x.dtype, device=x.device)
                kept = None if draw is None else draw(x)
                made[key] = fake_quant(x, scale, grid.spec, grid.zero_point, kept)
            return made[key]

        return self.run_float.run(inputs, change, values.shifts, seen)


def wide(shift: torch.Tensor, site: Site) -> torch.Tensor:
    """One value a channel as it adds to the tensor of a site."""
    return shift.reshape(-1, *[1] * (site.rank - 2)) if site.axis == 1 else shift
