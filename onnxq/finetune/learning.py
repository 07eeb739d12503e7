"""Learn one block: what it writes with its quantizers comes near what it writes in float.

    loss = sum over its outputs of |y' - y|^2 / |y|^2, as a share of what it was in the beginning
           + pressure on every rounding to end at a code

Inputs are those of the quantized model so far, mixed value by value with those of the float model,
and so are the activations within: what is learned does not lean on single errors. A few times the
judges look at the block as it would be written; what does best there is kept, or nothing.

Sources: Li et al., "BRECQ" (2021); Wei et al., "QDrop" (2022); Nagel et al. (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from onnxq.errors import ModelError
from onnxq.finetune.block_model import BlockModel, Values, wide
from onnxq.finetune.interpreter import Live
from onnxq.finetune.learned import Group, Learned, Result, present
from onnxq.finetune.quantizers import Rounding, pressure
from onnxq.finetune.walk import Held
from onnxq.finetune.windows import View, drawn_view
from onnxq.model.graph import constant_of
from onnxq.numerics import decibels
from onnxq.passes.insert_qdq import InsertOptions, Weight
from onnxq.recover.draft import Draft
from onnxq.recover.sites import Site
from onnxq.run.segments import Shapes

RATE, SLOW = 5e-2, 1e-3  # of Adam: for roundings; for scales, ranges and biases
PRESSURE = 300.0  # of all roundings together
WARM, BETA = 0.2, (20.0, 2.0)  # share of the steps without pressure; its exponent from, to
NO_GAIN = "comes no closer on the samples that judge"
NO_NUMBER = "its loss became no number"
CHECKS = 4  # looks of the judges, in the last half of the steps


@dataclass(frozen=True)
class Course:
    """How a block is learned: steps, samples a step, the seed of what is drawn, what is called
    after a step, and how many samples memory has room for at once.

    shapes: of its tensors, where a step looks through a window; None where it looks at all."""

    steps: int
    batch: int
    seed: int
    tick: Callable[[], None]
    at_once: int = 1 << 20
    shapes: Shapes | None = None


@dataclass
class Parameters:
    """What is learned of a block."""

    roundings: dict[Weight, Rounding] = field(default_factory=dict)
    shares: dict[Group, torch.Tensor] = field(default_factory=dict)
    shifts: dict[Site, torch.Tensor] = field(default_factory=dict)
    units: dict[Site, torch.Tensor] = field(default_factory=dict)
    base: dict[Site, torch.Tensor] = field(default_factory=dict)

    def values(self, standing: Values, hard: bool = False) -> Values:
        """The quantizers with these parameters."""
        weights = {**standing.weights, **{w: r.value(hard) for w, r in self.roundings.items()}}
        shares = {**standing.shares, **{g: torch.exp(a) for g, a in self.shares.items()}}
        shifts = {s.biased: wide(self._shift(s), s) for s in self.shifts}
        return Values(weights, shares, {**standing.shifts, **shifts})

    def _shift(self, site: Site) -> torch.Tensor:
        return self.base[site] + self.units[site] * self.shifts[site]

    def learned(self) -> Learned:
        """The same as arrays."""
        with torch.no_grad():
            return Learned(
                {w: r.codes() for w, r in self.roundings.items()},
                {g: float(torch.exp(a)) for g, a in self.shares.items()},
                {s: self._shift(s).cpu().numpy() for s in self.shifts},
            )


def parameters(
    model: BlockModel, draft: Draft, options: InsertOptions, rows: Sequence[Held]
) -> Parameters:
    """The parameters of a block, where it stands."""
    block, device = model.block, model.run_float.device
    made = Parameters()
    tensors = {t.name: t for node in block.segment.nodes for t in node.inputs}
    for weight in block.weights:
        values = constant_of(tensors[weight[0]])
        assert values is not None
        codes = present(draft, options, weight, values)
        made.roundings[weight] = Rounding.of(values, codes, weight[1], device)
        if options.scale_dtype != "float32" or weight[1].row.fixed_scale is not None:
            made.roundings[weight].gain.requires_grad_(False)
    for group in block.groups:
        made.shares[group] = torch.zeros((), device=device, requires_grad=True)
    sizes = _sizes(model, rows[0])
    for site in block.sites:
        size = sizes[site.biased]
        made.units[site] = torch.full((site.channels,), size, device=device)
        given = draft.shifts.get(site, np.zeros(site.channels, np.float32))
        made.base[site] = torch.from_numpy(np.asarray(given, np.float32)).to(device)
        made.shifts[site] = torch.zeros(site.channels, device=device, requires_grad=True)
    return made


def _sizes(model: BlockModel, row: Held) -> dict[str, float]:
    """Root mean square of each biased tensor, in float."""
    biased = tuple(site.biased for site in model.block.sites)
    run = replace(model.run_float, keep=biased)
    with torch.no_grad():
        found = run.run({n: row.exact[n] for n in model.block.segment.inputs})
    return {name: max(1e-6, float(x.square().mean().sqrt())) for name, x in found.items()}


def learn(
    model: BlockModel,
    draft: Draft,
    options: InsertOptions,
    fit: Sequence[Held],
    judges: Sequence[Held],
    standing: Values,
    course: Course,
) -> Result:
    """What is learned of a block from the samples `fit`; the judges only look.

    Where the loss becomes no number the block stays as it was.
    """
    made = parameters(model, draft, options, fit)
    alike = batches_well(model, fit)
    few = course.at_once if alike else 1
    size = course.batch
    before = best = noise(model, judges, standing)
    kept: Learned | None = None
    rng = np.random.default_rng(course.seed)
    drawn = torch.Generator(device=model.run_float.device).manual_seed(course.seed)
    step = Stepper(model, standing, made, noise(model, fit[: min(len(fit), 32)], standing), drawn)
    looks = {round(course.steps * (0.5 + 0.5 * (k + 1) / CHECKS)) - 1 for k in range(CHECKS)}
    order: list[int] = []
    for n in range(course.steps):
        if len(order) < size:
            order += rng.permutation(len(fit)).tolist()
        chosen, order = [fit[i] for i in order[:size]], order[size:]
        parts = [chosen[i : i + few] for i in range(0, size, few)]
        view = drawn_view(model.block.segment, course.shapes, rng) if alike else None
        loss = step(parts, n / course.steps, view)
        if not math.isfinite(loss):
            stood = -decibels(before, 1.0)
            return Result(None, stood, stood, NO_NUMBER)
        if n in looks:
            with torch.no_grad():
                now = noise(model, judges, made.values(standing, hard=True))
            if now < best:
                best, kept = now, made.learned()
        course.tick()
    return Result(kept, -decibels(before, 1.0), -decibels(best, 1.0), "" if kept else NO_GAIN)


class Stepper:
    """One step after another on the parameters of a block."""

    def __init__(
        self, model: BlockModel, standing: Values, made: Parameters, unit: float,
        drawn: torch.Generator,
    ) -> None:  # fmt: skip
        self.model, self.standing, self.made = model, standing, made
        self.unit, self.drawn = max(unit, 1e-12), drawn
        self.count = sum(r.v.numel() for r in made.roundings.values()) or 1
        fine = [r.gain for r in made.roundings.values() if r.gain.requires_grad]
        fine += [*made.shares.values(), *made.shifts.values()]
        groups = [
            {"params": [r.v for r in made.roundings.values()], "lr": RATE},
            {"params": fine, "lr": SLOW},
        ]
        self.adam = torch.optim.Adam([g for g in groups if g["params"]])

    def __call__(
        self, parts: Sequence[Sequence[Held]], done: float, view: View | None = None
    ) -> float:
        """Take a step on some samples, part by part as they fit; the loss. done: share of the steps
        that are taken. view: what is looked at."""
        self.adam.zero_grad()
        total = 0.0
        count = sum(map(len, parts))
        for part in parts:
            loss = self._loss(part, view) * (len(part) / count)
            loss.backward()
            total += float(loss.detach())
        if done >= WARM and self.made.roundings:
            held = PRESSURE * self._pressure((done - WARM) / (1 - WARM))
            held.backward()
        for group in self.adam.param_groups[1:]:
            group["lr"] = SLOW * 0.5 * (1 + math.cos(math.pi * done))
        self.adam.step()
        return total

    def _loss(self, rows: Sequence[Held], view: View | None) -> torch.Tensor:
        names = self.model.block.segment.inputs
        row = stacked([r.part(names, view) for r in rows])
        mixed = {n: self._mixed(row.rounded[n], row.exact[n]) for n in names}
        values = self.made.values(self.standing)
        out = self.model.quantized(mixed, values, self._draw, view)
        assert row.out is not None
        errors = [
            (out[n] - y).square().sum() / self._power(n, rows, y)
            for n, y in row.out.items()
            if y.is_floating_point() and y.numel()
        ]
        return torch.stack(errors).sum() / self.unit

    @staticmethod
    def _power(name: str, rows: Sequence[Held], y: torch.Tensor) -> torch.Tensor:
        """Of an output's values in the samples, as many as there are in `y`."""
        whole = [row.out[name] for row in rows if row.out is not None]
        total = torch.stack([x.square().sum() for x in whole]).sum().clamp_min(1e-12)
        return total * (y.numel() / sum(x.numel() for x in whole))

    def _pressure(self, done: float) -> torch.Tensor:
        beta = BETA[1] + 0.5 * (BETA[0] - BETA[1]) * (1 + math.cos(math.pi * done))
        sums = [pressure(r.soft(), beta) for r in self.made.roundings.values()]
        return torch.stack(sums).sum() / self.count

    def _mixed(self, quantized: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        if not quantized.is_floating_point() or quantized is exact:
            return quantized
        return torch.lerp(quantized, exact, self._draw(exact))

    def _draw(self, x: torch.Tensor) -> torch.Tensor:
        """1 for one value in two, else 0: a bit of each byte of random numbers."""
        numbers = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        bits = numbers.random_(generator=self.drawn).view(torch.uint8) & 1
        return bits[: x.numel()].to(x.dtype).reshape(x.shape)


def noise(model: BlockModel, rows: Sequence[Held], values: Values) -> float:
    """Sum over the outputs of error by power, over samples."""
    sums: dict[str, list[float]] = {}
    with torch.no_grad():
        for row in rows:
            inputs = {n: row.rounded[n] for n in model.block.segment.inputs}
            out = model.quantized(inputs, values)
            assert row.out is not None
            for name, y in row.out.items():
                if y.is_floating_point():
                    total = sums.setdefault(name, [0.0, 0.0])
                    total[0] += float((out[name] - y).double().square().sum())
                    total[1] += float(y.double().square().sum())
    found = sum(error / power if power else error for error, power in sums.values())
    return found if math.isfinite(found) else math.inf


def stacked(rows: Sequence[Held]) -> Held:
    """Samples one behind the other, as one."""
    if len(rows) == 1:
        return rows[0]

    def joined(several: Sequence[Mapping[str, torch.Tensor]]) -> Live:
        first = several[0]
        return {
            n: torch.cat([live[n] for live in several]) if x.ndim > 1 else x
            for n, x in first.items()
        }

    outs = [row.out for row in rows if row.out is not None]
    return Held(rows[0].at, joined([r.exact for r in rows]), joined([r.rounded for r in rows]),
                joined(outs))  # fmt: skip


def batches_well(model: BlockModel, rows: Sequence[Held]) -> bool:
    """Whether several samples may go through the block as one: tried on the first two."""
    names = model.block.segment.inputs
    shapes = [{n: row.exact[n].shape for n in names} for row in rows]
    if len(rows) < 2 or any(s != shapes[0] for s in shapes):
        return False
    few = rows[:2]
    try:
        joint = stacked([Held(0, {n: r.exact[n] for n in names}, {}, r.out) for r in few])
        with torch.no_grad():
            out = model.exact({n: joint.exact[n] for n in names})
    except (ModelError, RuntimeError):
        return False
    assert joint.out is not None
    return all(
        x.shape == joint.out[n].shape and torch.allclose(x, joint.out[n], rtol=1e-3, atol=1e-4)
        for n, x in out.items()
    )
