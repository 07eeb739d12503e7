"""How far a quantized model is from its float model: its outputs, and their parts, over samples.

Sums are added sample by sample (see `agreement`), so memory does not grow with the number of
samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from onnxq.arrays import Array, Sample
from onnxq.judge.agreement import Agreement as Agreement
from onnxq.judge.agreement import agreement as agreement
from onnxq.judge.agreement import table_of
from onnxq.judge.along import Along, Course
from onnxq.judge.comparable import Comparable, Declared, Equality, equality, is_float
from onnxq.judge.parts import Part, by_output, ranked_in
from onnxq.judge.ranked import Found, line_up
from onnxq.run.over import stream, to_stream
from onnxq.run.runtime import Model, Runtime, release_free_memory
from onnxq.table import Table


@dataclass(frozen=True)
class Headline:
    """The worst part of a model's outputs: its SQNR, and how that of single samples scatters; of
    classes at how many places they compete, and at how many of these the same one is on top."""

    part: str
    sqnr_db: float
    spread_db: float
    least_db: float
    places: int = 0
    tops: int = 0

    @staticmethod
    def of(part: str, found: Agreement) -> Headline:
        """That of a part."""
        return Headline(part, found.sqnr_db, found.spread_db, found.least_db, found.places,
                        found.tops)  # fmt: skip

    def as_dict(self) -> dict[str, str | float]:
        """For a report, rounded."""
        figures = asdict(self)
        if not self.places:
            del figures["places"], figures["tops"]
        return {k: v if isinstance(v, str) else round(v, 3) for k, v in figures.items()}


def _order(decibels: float) -> float:
    """What is not a number is worse than any."""
    return -math.inf if math.isnan(decibels) else decibels


@dataclass(frozen=True, eq=False)
class Agreements(Mapping[str, Agreement]):
    """How near a model's outputs are to another's: the `Agreement` of each float output by name.

    exact: the other outputs, which are compared by equality. left_out: output -> why it was not
    compared. samples: how many there were. parts: what the outputs are judged by: their parts by
    name, an output that has none by its own; empty where nobody said what the parts are. along: of
    what is judged, how it changes along sequences; empty without any.
    """

    floats: Mapping[str, Agreement] = field(default_factory=dict)
    exact: Mapping[str, Equality] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    samples: int = 0
    parts: Mapping[str, Agreement] = field(default_factory=dict)
    along: Mapping[str, Along] = field(default_factory=dict)
    matched: Mapping[str, Found] = field(default_factory=dict)

    @property
    def judged(self) -> Mapping[str, Agreement]:
        """The parts; the outputs where nobody said what the parts are."""
        return self.parts or self.floats

    @property
    def headline(self) -> Headline | None:
        """The worst part: the one figure of a model; None without a float output. The logits stand
        there in place of the probabilities."""
        found = {n: a for n, a in self.judged.items() if f"{n} logits" not in self.judged}
        worst = min(found, key=lambda name: _order(found[name].sqnr_db), default=None)
        return None if worst is None else Headline.of(worst, found[worst])

    def __getitem__(self, name: str) -> Agreement:
        """The agreement of an output, or of a part of one."""
        return self.floats[name] if name in self.floats else self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.floats)

    def __len__(self) -> int:
        return len(self.floats)

    def table(self) -> Table:
        """The figures of each part of the float outputs."""
        return table_of(self.judged)

    def lines(self) -> list[str]:
        """What to say beside the table: of the other outputs, and what was not compared."""
        lines = [*self.equal_lines(), *self.along_lines(), *self.notes()]
        return lines if self or self.exact else ["no output was compared", *lines]

    def equal_lines(self) -> Iterator[str]:
        """A line for each output that is compared by equality."""
        for name, e in self.exact.items():
            yield f"output '{name}': {100 * e.share:.2f}% of {e.count} values are equal"

    def along_lines(self) -> Iterator[str]:
        """A line for how the figure of the worst part changes along sequences, where there are
        any."""
        if self.headline is not None and self.headline.part in self.along:
            yield self.along[self.headline.part].line(self.headline.part)

    def notes(self) -> Iterator[str]:
        """A line for whatever the figures leave out or cannot say."""
        for name, why in self.left_out.items():
            yield f"output '{name}' is not compared: {why}"
        for names, found in self.matched.items():
            yield found.line(names)
        for name, a in self.floats.items():
            if a.alike and not any(f"'{name}'" in names for names in self.matched):
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
    parts: Mapping[Part, Agreement] | None = None,
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
        {p.name: a for p, a in (parts or {}).items() if p.output not in reasons and a.count},
    )


Lazily = Model | Callable[[], Model]  # a function makes it when its turn comes


@dataclass(frozen=True)
class Reference:
    """What the float model gives for some samples, held to compare others with; few samples.

    declared: the shapes that hold for its outputs. parts: of them, each of which is judged.
    """

    samples: Iterable[Sample]
    outputs: Sequence[Mapping[str, Array]]
    declared: Declared
    parts: Sequence[Part] = ()

    @staticmethod
    def of(
        model: Lazily,
        samples: Iterable[Sample],
        tick: Callable[[], None] = lambda: None,
        runtime: Runtime | None = None,
        declared: Declared | None = None,
        parts: Sequence[Part] = (),
    ) -> Reference:
        """The reference that `model` is; `declared` None for the shapes that it declares."""
        run = to_stream(_made(model), runtime, samples=samples)
        if declared is None:
            declared = {o.name: o.shape or () for o in run.session.get_outputs()}
        found = list(stream(run, samples, tick))
        del run
        release_free_memory()
        return Reference(samples, found, declared, parts)

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
        parts: dict[Part, Agreement] = {}
        of, course = by_output(self.parts), Course(self.samples)
        groups, matched = ranked_in(self.parts), dict[str, Found]()
        found = outputs(quantized, self.samples, tick, runtime)
        for k, pair in enumerate(zip(self.outputs, found, strict=True)):
            course.at(k)
            a, b = line_up(groups, *pair, matched)
            for name, x, y in sorted_out.pairs(a, b):
                if is_float(x):
                    whole = agreement(x, y)
                    floats[name] = floats.get(name, Agreement()) + whole
                    if not self.parts:
                        course.add(name, whole)
                    for part in of.get(name, ()):
                        one = whole if part.is_whole else _of_part(part, x, y)
                        parts[part] = parts.get(part, Agreement()) + one
                        course.add(part.name, one)
                else:
                    exact[name] = exact.get(name, Equality()) + equality(x, y)
            if k + 1 == len(self.outputs):
                sorted_out.check()
            so_far = agreements(floats, exact, sorted_out.left_out, k + 1, parts)
            yield replace(so_far, along=course.found(), matched=dict(matched))
        if not self.outputs:
            yield agreements({}, {}, {}, 0)


def _of_part(part: Part, ref: Array, test: Array) -> Agreement:
    """The agreement of a part, with that of the top class where it is classes."""
    found = agreement(part.of(ref), part.of(test))
    if part.classes is None or not ref.size:
        return found
    same = ref.argmax(axis=part.classes) == test.argmax(axis=part.classes)
    return replace(found, places=int(same.size), tops=int(same.sum()))


def measure(
    reference: Lazily,
    quantized: Lazily,
    feeds: Iterable[Sample],
    tick: Callable[[], None] = lambda: None,
    runtime: Runtime | None = None,
    declared: Declared | None = None,
    parts: Sequence[Part] = (),
) -> Agreements:
    """How near the outputs of two models are, run through ONNX Runtime.

    The reference's outputs are held while the second model is loaded, one session at a time, so
    that memory stays near that of one model; pass few feeds. A model may be given as a function
    that makes it when its turn comes. Feeds are in the reference's types and are read twice.
    `declared` are the shapes that hold for the reference's outputs, None those it declares;
    `parts` are what the outputs are judged by, without any each as a whole. Raises
    ModelError for models that differ in the names of their outputs, or in lengths that are fixed.
    """
    samples = list(feeds) if isinstance(feeds, Iterator) else feeds
    held = Reference.of(reference, samples, tick, runtime, declared, parts)
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
