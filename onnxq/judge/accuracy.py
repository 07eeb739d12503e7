"""How far a quantized model is from its float model: sums over samples, read at the end.

    SQNR   = 10 log10(sum(ref^2) / sum((ref - test)^2))   in dB
    cosine = sum(ref * test) / sqrt(sum(ref^2) * sum(test^2))

Sums are added sample by sample, so memory does not grow with the number of samples. Places where
both models write the same infinity, or both NaN, such as masked logits, say nothing of the
distance: they are left out and counted. Where one model alone writes one, every figure is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxq.arrays import Array, Sample
from onnxq.errors import ModelError
from onnxq.judge.comparable import Comparable, Declared, Equality, equality, is_float
from onnxq.judge.gaps import finite_pairs, powers
from onnxq.numerics import decibels
from onnxq.run.over import stream, to_stream
from onnxq.run.runtime import Model, Runtime, release_free_memory
from onnxq.table import Table, page


@dataclass(frozen=True)
class Agreement:
    """Sums over the values of one output; `+` adds samples up.

    count: of values compared. mean_abs_worst: the mean absolute difference of the sample where it
    is largest. alike: values left out, as both models have the same infinity or NaN there. apart:
    values where one model alone does.
    """

    count: int = 0
    ref_power: float = 0.0
    test_power: float = 0.0
    noise: float = 0.0
    dot: float = 0.0
    abs_sum: float = 0.0
    abs_max: float = 0.0
    mean_abs_worst: float = 0.0
    alike: int = 0
    apart: int = 0

    def __repr__(self) -> str:
        figures = f"SQNR {self.sqnr_db:.2f} dB, cosine {self.cosine:.5f}"
        return f"Agreement({figures}, max |diff| {self.abs_max:.4g}, {self.count} values)"

    def _repr_html_(self) -> str:
        return page("", Agreements({"": self}).table())

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.count + other.count,
            self.ref_power + other.ref_power,
            self.test_power + other.test_power,
            self.noise + other.noise,
            self.dot + other.dot,
            self.abs_sum + other.abs_sum,
            float(np.maximum(self.abs_max, other.abs_max)),  # unlike max(), keeps NaN
            float(np.maximum(self.mean_abs_worst, other.mean_abs_worst)),
            self.alike + other.alike,
            self.apart + other.apart,
        )

    @property
    def sqnr_db(self) -> float:
        """SQNR in dB; inf where the outputs are equal, -inf where the reference is all zero."""
        return decibels(self.ref_power, self.noise)

    @property
    def cosine(self) -> float:
        """Cosine similarity of all values; 1 where both are all zero."""
        norm = math.sqrt(self.ref_power) * math.sqrt(self.test_power)
        return self.dot / norm if norm else float(self.ref_power == self.test_power)

    @property
    def mean_abs(self) -> float:
        """Mean absolute difference."""
        return self.abs_sum / self.count if self.count else 0.0

    def as_dict(self) -> dict[str, float]:
        """The four figures, rounded for a report."""
        return {
            "sqnr_db": round(self.sqnr_db, 3),
            "cosine": round(self.cosine, 6),
            "max_abs": float(f"{self.abs_max:.6g}"),
            "mean_abs": float(f"{self.mean_abs:.6g}"),
        }


def agreement(ref: Array, test: Array) -> Agreement:
    """Agreement of one array with its reference.

    Every figure is NaN where one of the two alone is NaN or infinite, or the other infinity. Raises
    ModelError for two shapes.
    """
    if ref.shape != test.shape:
        raise ModelError(f"shape {ref.shape} in one model and {test.shape} in the other; "
                         "compare a model with its own quantized form")  # fmt: skip
    r, t, alike, apart = finite_pairs(ref, test)
    if apart:
        nan = math.nan
        return Agreement(r.size + apart, nan, nan, nan, nan, nan, nan, nan, alike, apart)
    gap = np.abs(r - t)
    signal, noise = powers(r, gap)
    return Agreement(
        r.size,
        signal,
        float(t @ t),
        noise,
        float(r @ t),
        float(gap.sum()),
        float(gap.max(initial=0.0)),
        float(gap.mean()) if gap.size else 0.0,
        alike,
    )


@dataclass(frozen=True, eq=False)
class Agreements(Mapping[str, Agreement]):
    """How near a model's outputs are to another's: the `Agreement` of each float output by name.

    exact: the other outputs, which are compared by equality. left_out: output -> why it was not
    compared. samples: how many there were.
    """

    floats: Mapping[str, Agreement] = field(default_factory=dict)
    exact: Mapping[str, Equality] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    samples: int = 0

    def __getitem__(self, name: str) -> Agreement:
        return self.floats[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.floats)

    def __len__(self) -> int:
        return len(self.floats)

    def table(self) -> Table:
        """The figures of each float output."""
        rows = [
            (name, f"{a.sqnr_db:.2f}", f"{a.cosine:.5f}", a.abs_max, a.mean_abs)
            for name, a in self.items()
        ]
        columns = ("output", "SQNR, dB", "cosine", "max |diff|", "mean |diff|")
        return Table("Agreement", columns, rows)

    def lines(self) -> list[str]:
        """What to say beside the table: of the other outputs, and what was not compared."""
        lines = [*self.equal_lines(), *self.notes()]
        return lines if self or self.exact else ["no output was compared", *lines]

    def equal_lines(self) -> Iterator[str]:
        """A line for each output that is compared by equality."""
        for name, e in self.exact.items():
            yield f"output '{name}': {100 * e.share:.2f}% of {e.count} values are equal"

    def notes(self) -> Iterator[str]:
        """A line for whatever the figures leave out or cannot say."""
        for name, why in self.left_out.items():
            yield f"output '{name}' is not compared: {why}"
        for name, a in self.floats.items():
            if a.alike:
                yield (f"output '{name}': {a.alike} of {a.alike + a.count} values are infinite or "
                       "NaN alike in both models and are left out")  # fmt: skip
            if a.apart:
                yield (f"output '{name}': {a.apart} of {a.alike + a.count} values are infinite or "
                       "NaN in one model alone, so it has no SQNR")  # fmt: skip


def agreements(
    floats: Mapping[str, Agreement],
    exact: Mapping[str, Equality],
    left_out: Mapping[str, str],
    samples: int,
) -> Agreements:
    """The agreements of what was compared; outputs without a value to compare are left out too."""
    reasons = dict(left_out)
    for name, a in floats.items():
        if not a.count:
            reasons.setdefault(name, f"all its {a.alike} values are infinite or NaN in both models"
                               if a.alike else "it has no values in any sample")  # fmt: skip
    for name, e in exact.items():
        if not e.count:
            reasons.setdefault(name, "it has no values in any sample")
    return Agreements(
        {name: a for name, a in floats.items() if name not in reasons},
        {name: e for name, e in exact.items() if name not in reasons},
        reasons,
        samples,
    )


Lazily = Model | Callable[[], Model]  # a function makes it when its turn comes


@dataclass(frozen=True)
class Reference:
    """What the float model gives for some samples, held to compare others with; few samples.

    declared: the shapes that hold for its outputs.
    """

    samples: Iterable[Sample]
    outputs: Sequence[Mapping[str, Array]]
    declared: Declared

    @staticmethod
    def of(
        model: Lazily,
        samples: Iterable[Sample],
        tick: Callable[[], None] = lambda: None,
        runtime: Runtime | None = None,
        declared: Declared | None = None,
    ) -> Reference:
        """The reference that `model` is; `declared` None for the shapes that it declares."""
        run = to_stream(_made(model), runtime)
        if declared is None:
            declared = {o.name: o.shape or () for o in run.session.get_outputs()}
        found = list(stream(run, samples, tick))
        del run
        release_free_memory()
        return Reference(samples, found, declared)

    def running(
        self,
        quantized: Lazily,
        tick: Callable[[], None] = lambda: None,
        runtime: Runtime | None = None,
    ) -> Iterator[Agreements]:
        """How near the outputs of a model are, over one sample, over two, and so on to all.

        Raises ModelError for a model with other names of outputs, and in the end for one with other
        lengths where those are fixed.
        """
        sorted_out = Comparable(self.declared)
        floats: dict[str, Agreement] = {}
        exact: dict[str, Equality] = {}
        found = outputs(quantized, self.samples, tick, runtime)
        for k, (a, b) in enumerate(zip(self.outputs, found, strict=True)):
            for name, x, y in sorted_out.pairs(a, b):
                if is_float(x):
                    floats[name] = floats.get(name, Agreement()) + agreement(x, y)
                else:
                    exact[name] = exact.get(name, Equality()) + equality(x, y)
            if k + 1 == len(self.outputs):
                sorted_out.check()
            yield agreements(floats, exact, sorted_out.left_out, k + 1)
        if not self.outputs:
            yield agreements({}, {}, {}, 0)


def measure(
    reference: Lazily,
    quantized: Lazily,
    feeds: Iterable[Sample],
    tick: Callable[[], None] = lambda: None,
    runtime: Runtime | None = None,
    declared: Declared | None = None,
) -> Agreements:
    """How near the outputs of two models are, run through ONNX Runtime.

    The reference's outputs are held while the second model is loaded, one session at a time, so
    that memory stays near that of one model; pass few feeds. A model may be given as a function
    that makes it when its turn comes. Feeds are in the reference's types and are read twice.
    `declared` are the shapes that hold for the reference's outputs, None those it declares. Raises
    ModelError for models that differ in the names of their outputs, or in lengths that are fixed.
    """
    samples = list(feeds) if isinstance(feeds, Iterator) else feeds
    held = Reference.of(reference, samples, tick, runtime, declared)
    return list(held.running(quantized, tick, runtime))[-1]


def outputs(
    model: Lazily,
    samples: Iterable[Sample],
    tick: Callable[[], None] = lambda: None,
    runtime: Runtime | None = None,
) -> Iterator[dict[str, Array]]:
    """The outputs of a model for each sample, by name; FP16 inputs take float32 samples."""
    yield from stream(_made(model), samples, tick, runtime)


def _made(model: Lazily) -> Model:
    return model() if callable(model) else model
