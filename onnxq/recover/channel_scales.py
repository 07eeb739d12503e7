"""Channel scales: channels of very different sizes in front of a layer get a factor each.

    y = f(x) W   =>   y = (f(x) / s) (s W),    s_c a factor for each channel c

A layer's input has one scale for all its channels. Behind HardSwish they differ 60:1 to 600:1
(MobileNetV3, LCNet, PicoDet), and each output of a depthwise Conv reads one of them: where one step
is as large as a whole channel, nothing is left of it. The factors go into constants alone: into
what writes the input (the Div by 6 of a HardSwish written out, an affine block, a normalization, a
layer behind Relu: see `rescale`), and into the weights that read it. No node is added there.

HardSwish as one op, SiLU and GELU have no such constant: a Mul behind them takes the factors, which
an engine computes in the kernel of the activation (`groups.JOINED`). It is an op more in the graph
all the same, so there is more to gain: `MUL_PAYS` dB at some depthwise Conv. LCNet has 21 dB, a
detector with SiLU, which is good as it is, 12.

Which groups pay is a closed form: the noise of each output channel as a share of its signal, from
the sizes of channels and weights, rounding being independent from value to value. Where no group
gains `PAYS` dB, the model is left alone. s is amax^alpha / weight^(1 - alpha), as in `smooth`. The
weights of a depthwise Conv have a scale for each channel and take any factor freely, so alpha is 1;
those of other layers pay for it, and the outputs of the model say whether they are scaled too: on a
layout detector that brought 0.7 dB after 16, on a text detector it took 3 dB of 4 away again.

Factors that are powers of two would keep the float model to the bit, and cost 2 to 3 dB of the
noise in front of a depthwise Conv.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.judge.verdict import sqnr
from onnxq.model.graph import Graph, node_by_name
from onnxq.numerics import decibels
from onnxq.plan import Plan
from onnxq.recover.channel_sizes import Sizes, channel_sizes
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.groups import Group, factors, find_groups
from onnxq.recover.linear import by_channel
from onnxq.recover.trials import LEAST, NOTHING, tabulate
from onnxq.spec import Edge

ALPHAS = (0.5, 0.75, 1.0)
PAYS = 6.0  # dB at the outputs of its readers from which on a group is worth a change of the graph
MUL_PAYS = 15.0  # dB that some depthwise Conv must gain before Muls are put into a graph
FREE = 1.0  # the same of a depthwise Conv beside one that is
SAMPLES = 16  # what the factors bring is coarse: fewer samples tell it than other recoveries need
SIZED = 8  # samples that the sizes of channels are read from
GLANCED = 2  # the same, to see whether Muls pay
FULL = 1.0  # strength of a group that is scaled
TRIALS = 3  # choices that are tried at the outputs
MULS = "activations that a Mul of factors follows, in one kernel with them in an engine: {}"


@dataclass(frozen=True)
class ChannelReader:
    """The weight of a layer by channel: (groups, outputs, inputs) sums of squares and largest
    |values| over `taps` places of the kernel; the largest code of its input and of its weight."""

    power: Array
    largest: Array
    taps: int
    input_codes: float
    weight_codes: float

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one channel."""
        return bool(self.power.shape[2] == 1)

    def noise(self, sizes: Sizes, scale: Array) -> Array:
        """The error of each output as a share of its power, if the input is divided by `scale`;
        none of outputs that are zero. Rounding errs by step^2 / 12 on the average."""
        groups, _, inputs = self.power.shape
        s = scale.reshape(groups, 1, inputs)
        size = sizes.power.reshape(groups, 1, inputs)
        step = (sizes.amax / scale).max() / self.input_codes
        steps = (self.largest * s).max(axis=2) / self.weight_codes
        error = step**2 * (self.power * s**2).sum(axis=2)
        error += steps**2 * self.taps * (size / s**2).sum(axis=2)
        signal = (self.power * size).sum(axis=2)
        seen = (signal > 0) & np.isfinite(signal)
        return np.asarray(error[seen] / signal[seen] / 12)


@dataclass(frozen=True)
class Offer:
    """A scale of a group, what it gains at its readers in dB, and whether weights pay nothing."""

    scale: Array
    gain: float
    free: bool


def scale_channels(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with channels scaled where that raises the SQNR at the outputs; the same draft
    where it does not.

    Only float32 graphs are scaled. Expects a draft whose ranges are not read yet.
    """
    offers = offers_of(bench, draft.graph) if bench.judged else {}
    if not offers:
        return draft, Outcome("channel scales")
    few = replace(bench, data=_few(bench))
    table = tabulate(few, draft.graph, {(g, FULL): offer.scale for g, offer in offers.items()})
    plain = table.run({})
    best, against = plain, NOTHING
    for done, groups in enumerate(_choices(offers), 1):
        if set(groups) < set(best.choice) and all(offers[g].free for g in best.choice):
            break
        trial = table.run(dict.fromkeys(groups, FULL))
        bench.progress(done, TRIALS)
        if fallen := table.bench.jury.worst_fall(plain.errors, trial.errors):
            against = f"does not raise the SQNR of '{fallen}' on samples that judge"
        elif trial.score > best.score + (0.0 if best.choice else LEAST):
            best = trial
    gains = {name: offers[g].gain for g in best.choice for name in g.readers}
    if best.choice:
        against = "the outputs are better with it as it is"
    undone = {name: against for g in offers if g not in best.choice for name in g.readers}
    muls = sum(not g.folded for g in best.choice)
    notes = (MULS.format(muls),) if muls else ()
    scores = sqnr(plain.errors), sqnr(best.errors)
    outcome = Outcome("channel scales", gains, undone, *scores, notes)
    if not best.choice:
        return draft, outcome
    return replace(draft, graph=table.graph_of(best.choice)), outcome


def _few(bench: Bench) -> Dataset:
    return bench.chosen.select(range(min(SAMPLES, len(bench.chosen))))


def offers_of(bench: Bench, graph: Graph) -> dict[Group, Offer]:
    """The scales of the groups that gain; none where no group gains `PAYS`."""
    groups = [g for g in find_groups(graph, bench.plan) if g.joined]
    readers = {g: found for g in groups if (found := readers_of(graph, bench.plan, g))}
    if not _muls_pay(bench, graph, readers):
        readers = {g: found for g, found in readers.items() if g.folded}
    offers = _offers(bench, graph, readers, SIZED)
    if all(offer.gain < PAYS for offer in offers.values()):
        return {}
    return {g: offer for g, offer in offers.items() if offer.gain >= (FREE, PAYS)[not offer.free]}


def _muls_pay(bench: Bench, graph: Graph, readers: Mapping[Group, list[ChannelReader]]) -> bool:
    """Whether Muls behind activations bring enough: TensorRT alone takes them in."""
    if bench.plan.target != "tensorrt":
        return False
    muls = {g: its for g, its in readers.items() if not g.folded and all(r.depthwise for r in its)}
    offers = _offers(bench, graph, muls, GLANCED)
    return any(offer.gain >= MUL_PAYS for offer in offers.values())


def _offers(
    bench: Bench, graph: Graph, readers: Mapping[Group, list[ChannelReader]], samples: int
) -> dict[Group, Offer]:
    layouts = {g.tensor: g.layout for g in readers}
    sized = bench.chosen.select(list(bench.fit)[:samples])
    sizes = channel_sizes(graph, layouts, sized, bench.runtime, bench.workers)
    return {g: best_offer(found, sizes[g.tensor]) for g, found in readers.items()}


def _choices(offers: Mapping[Group, Offer]) -> Iterator[Sequence[Group]]:
    """All groups; those whose weights pay nothing; the better half of these. At most `TRIALS`."""
    free = [g for g in offers if offers[g].free] or list(offers)
    yield list(offers)
    if len(free) < len(offers):
        yield free
    if len(free) > 1:
        yield sorted(free, key=lambda g: -offers[g].gain)[: (len(free) + 1) // 2]


def readers_of(graph: Graph, plan: Plan, group: Group) -> list[ChannelReader]:
    """The layers of a group whose input and weight `plan` quantizes; none if one is in a float
    type, whose steps follow its values, or has one scale for its whole weight, which any factor
    would make coarser."""
    nodes, found = node_by_name(graph), []
    for name in group.readers:
        specs = [spec for i in (0, 1) if (spec := plan.edges.get(Edge(name, i))) is not None]
        if len(specs) == 2:
            if any("fp" in spec.dtype for spec in specs) or specs[1].granularity == "tensor":
                return []
            codes = [spec.row.qmax for spec in specs]
            found.append(ChannelReader(*by_channel(nodes[name]), *codes))
    return found


def best_offer(readers: Sequence[ChannelReader], sizes: Sizes) -> Offer:
    """The scale that helps the outputs of `readers` most on the average; one of gain 0 where none
    does."""
    free = all(reader.depthwise for reader in readers)
    one = np.ones(sizes.amax.shape)
    best = Offer(one, 0.0, free)
    plain = np.concatenate([reader.noise(sizes, one) for reader in readers])
    if not plain.size or not (np.isfinite(sizes.amax) & np.isfinite(sizes.power)).all():
        return best
    weights = np.max([_shares(reader) for reader in readers], axis=0)
    for alpha in ALPHAS:
        scale = factors(sizes.amax, weights, alpha)
        noise = np.concatenate([reader.noise(sizes, scale) for reader in readers])
        gain = math.fsum(decibels(a, b) for a, b in zip(plain, noise, strict=True)) / plain.size
        if gain > best.gain:
            best = Offer(scale, gain, free)
    return best


def _shares(reader: ChannelReader) -> Array:
    """Of each channel the largest |weight| as a share of the largest of the same output, which has
    a scale of its own."""
    largest = reader.largest.max(axis=2, keepdims=True)
    shares = reader.largest / np.where(largest > 0, largest, 1)
    return np.asarray(shares.max(axis=1).ravel())
