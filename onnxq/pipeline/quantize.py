"""The whole pipeline: prepare, plan, calibrate, read ranges, insert Q/DQ, recover, compare; and
what it made, written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypeVar

from onnxq import files
from onnxq.calib.data import Dataset
from onnxq.calib.observed import settle, taken
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.errors import DataError
from onnxq.judge.grade import Verdict, judged
from onnxq.judge.parts import judged_tensors
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.model.input_shapes import shapes_seen
from onnxq.model.model_file import ModelLike
from onnxq.passes.name_axes import name_axes_by
from onnxq.pipeline import doubts, original, remarks
from onnxq.pipeline import manifest as manifests
from onnxq.pipeline.comparing import agreement as near
from onnxq.pipeline.comparing import timing
from onnxq.pipeline.config import Config
from onnxq.pipeline.high_precision import HALF_SAMPLES
from onnxq.pipeline.manifest import Document, Manifest, Values
from onnxq.pipeline.method_choice import choose, is_auto
from onnxq.pipeline.opened import Opened
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.recoveries import Learner, refine
from onnxq.pipeline.source import Source, prepare
from onnxq.pipeline.steps import (
    as_attributes,
    insert,
    plan,
    refuse_empty,
    refuse_unsound,
    runtime_of,
    to_high_precision,
    write_biases,
)
from onnxq.plan import Plan
from onnxq.progress import Progress, silent, stage, told
from onnxq.recover.sites import shift_biases
from onnxq.run.runtime import release_free_memory
from onnxq.table import Folded, page


@dataclass(frozen=True)
class Quantized(Values):
    """What `quantize` returns: the Q/DQ graph, every value on the way to it, and the manifest.

    runs: the form of the graph that ONNX Runtime runs, where that is another. metadata: the source
    model's own metadata_props, such as class names, handed on by `write`.
    """

    runs: Graph = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False)
    record: Manifest = field(repr=False)

    @property
    def manifest(self) -> Document:
        """What the run decided and measured, as the document that `write` writes."""
        return self.record.document()

    @property
    def properties(self) -> dict[str, str]:
        """The metadata_props of the model that is written: its source's, and a digest of the
        manifest."""
        return {**self.metadata, **manifests.digest(self.record)}

    @property
    def verdict(self) -> Verdict | None:
        """Good, doubtful or poor, and why; None where no float output was compared."""
        said = self.record.verdict
        return None if said is None else Verdict(**said)  # type: ignore[arg-type]

    def told(self, repeat: Sequence[str] | None, following: str) -> Self:
        """The same, with commands that compare the models again and the one to go on with."""
        verdict = None if self.verdict is None else replace(self.verdict, next=following).as_dict()
        return replace(self, record=replace(self.record, repeat=repeat, verdict=verdict))

    def __repr__(self) -> str:
        outputs = [f"'{name}' {a.sqnr_db:.2f} dB" for name, a in self.agreement.judged.items()]
        outputs += [f"'{n}' {100 * e.share:.2f}% equal" for n, e in self.agreement.exact.items()]
        nodes = f"{len(self.plan.nodes)} nodes quantized, {len(self.plan.skipped)} float"
        return f"Quantized({nodes}; {', '.join(outputs) or 'not compared'})"

    def _repr_html_(self) -> str:
        found = self.agreement
        outputs = [found.table()] if found else []
        return page("Quantized", *outputs, *found.lines(), self.plan, Folded("ranges", self.ranges))


Made = TypeVar("Made", bound=Quantized)


@told
def quantize(
    model: ModelLike,
    calib: CalibrationData,
    config: Config | None = None,
    *,
    plan_from: Plan | None = None,
    stats_from: Stats | None = None,
    ranges_from: Ranges | None = None,
    learner: Learner | None = None,
    progress: Progress = silent,
) -> Quantized:
    """The whole pipeline on a model file and calibration data; writes nothing.

    `plan_from`, `stats_from` and `ranges_from` replace the plan, the calibration and the method by
    saved ones, which must be of this model. `learner` comes behind the recoveries. Raises
    OnnxqError subclasses for whatever the user can mend.
    """
    config = config or Config()
    clock = Clock()
    with clock("prepare"):
        source = prepare(model, config, plan_from)
    with clock("plan"):
        chosen = planned(source, config, plan_from)
        if learner is not None:
            learner.check(source.graph, judged_tensors(source.graph))
    with clock("calibrate", "read data"):
        opened = Opened.of(source, calib, config)
    return made(opened, chosen, config, stats_from, clock, ranges_from, learner)


def planned(source: Source, config: Config, plan_from: Plan | None = None) -> Plan:
    """The plan that is quantized by; raises PlanError for one that is of another model or quantizes
    nothing, ModelError for weights that are not sound."""
    chosen = plan_from or plan(source, config)
    chosen.check_model(source.sha256)
    refuse_empty(chosen, source)
    refuse_unsound(chosen, source)
    return chosen


def made(
    opened: Opened,
    chosen: Plan,
    config: Config,
    stats_from: Stats | None = None,
    clock: Clock | None = None,
    ranges_from: Ranges | None = None,
    learner: Learner | None = None,
) -> Quantized:
    """An opened model, quantized by a plan; raises as `quantize`."""
    clock = clock or Clock()
    if ranges_from is not None:
        stats_from = _uncounted(ranges_from, stats_from, opened.source)
    rest, check, side = opened.rest, opened.check, opened.side
    with clock("recover"):
        source, outcomes = opened.reshape(chosen, config, stats_from)
    with clock("calibrate"):
        stats = stats_from or opened.count(source, chosen, config)
        _check_stats(stats, source, opened.source)
    with clock("ranges"):
        scores: Mapping[str, float] = {}
        lacking: list[str] = []
        if ranges_from is None:
            ranges, scores = choose(source, chosen, stats, side, config)
        else:
            chosen, ranges, lacking = taken(source.graph, chosen, ranges_from)
        unseen = {name for name, seen in stats.histograms.items() if not seen.count}
        chosen, notes = settle(source.graph, chosen, ranges, unseen)
        refuse_empty(chosen, source)
    with clock("recover"):
        draft, refined = refine(source, chosen, ranges, rest, config, learner)
        ranges = draft.ranges or ranges
    with clock("insert"):
        graph = insert(source, chosen, ranges, config, draft.codes)
        shift_biases(graph, draft.shifts)
    half, kept, runs = _high_precision(source, graph, chosen, ranges, rest, config, clock)
    with clock("compare"):
        agreement, unrounded, trouble = near(side, runs, config)
        timed = timing(side, runs, config, trouble)
    values = Values(half, chosen, stats, ranges, agreement)
    recovered = [o.as_dict() for o in (*outcomes, *refined)]
    compared = remarks.Compared(agreement, unrounded, trouble, runs)
    notes = [*source.notes, *original.notes(source), *lacking, *notes]
    with stage("look at the data"):
        notes += remarks.of_model(source, chosen, config, draft.codes)
        notes += doubts.of_data(opened.source, opened.dataset, runtime_of(config))
        notes += doubts.of_outputs(opened.source.graph, side.outputs())
    notes += remarks.of_comparison(compared, not scores and is_auto(config))
    half_serves = config.high_precision == "fp32" and config.placement.target == "tensorrt"
    verdict = judged(agreement, manifests.quantized_share(source.graph, chosen), half_serves)
    said = manifests.Remarks(
        notes,
        verdict,
        scores,
        recovered,
        kept,
        len(check),
        remarks.took_part(opened, chosen, stats_from, config),
        shapes_seen(opened.dataset.shapes()),
        unrounded,
        trouble,
        clock.seconds,
        timed,
        opened.dataset.feedback,
    )
    record = manifests.describe(source.file, config, values, said)
    return Quantized(**vars(values), runs=runs, metadata=source.file.metadata, record=record)


def _high_precision(
    source: Source,
    graph: Graph,
    plan: Plan,
    ranges: Ranges,
    dataset: Dataset,
    config: Config,
    clock: Clock,
) -> tuple[Graph, dict[str, str], Graph]:
    """What is written, with attributes in place of Q/DQ where the plan has attribute ops; what of
    it stays FP32, and why; and the form of it that ONNX Runtime can run, to compare."""
    with clock("half"):
        half = graph.copy()
        kept = to_high_precision(source, half, dataset, config)
        runs = graph if config.high_precision == "bf16" else half
        if plan.attribute_ops:
            half = as_attributes(source, graph, plan, ranges, config)
            kept = to_high_precision(source, half, dataset, config)
        for one in {id(g): g for g in (half, runs)}.values():
            write_biases(one, config)
        few = dataset.select(range(min(HALF_SAMPLES, len(dataset))))
        name_axes_by(half, (facts.shapes for facts in few.facts()))
    return half, kept, runs


def _uncounted(ranges: Ranges, stats: Stats | None, source: Source) -> Stats:
    """No statistics, for ranges that were read elsewhere; raises DataError unless these are of the
    source and stand alone."""
    if stats is not None:
        raise DataError("--stats and --ranges both say what the ranges are; give one of them")
    ranges.check_model(source.sha256)
    return Stats(source.sha256, {}, 0)


def _check_stats(stats: Stats, source: Source, float_source: Source) -> None:
    """Raises DataError unless the statistics are those of the graph that is quantized."""
    if source is not float_source and stats.model == float_source.sha256:
        raise DataError(
            "the statistics or ranges are of the model as it is, and channels, smooth or equalize "
            "changed it; leave out --stats or --ranges, or those recoveries"
        )
    stats.check_model(source.sha256)


@stage("write")
def write(result: Made, out: str | Path, config: Config | None = None) -> Made:
    """Write the model to `out` and its manifest to `<out>.manifest.json`, both or neither; returns
    the result, whose manifest has the output's path and size then.

    A digest of the manifest goes into the model.
    """
    config = config or Config()
    out = Path(out)
    external = config.external_data or bool(result.record.model["external_data"])
    with files.together():
        size = graphs.save(result.graph, out, result.properties, external)
        written = replace(result.record, output={"path": out.name, "bytes": size})
        manifests.save(written, out.with_name(out.name + ".manifest.json"))
    return replace(result, record=written)


class Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, shown: str = "") -> Iterator[None]:
        """Time a stage, which is `shown` by its name or by another."""
        start = time.perf_counter()
        with stage(shown or name):
            yield
        release_free_memory()  # what one stage needed must not stand beside the next one's peak
        spent = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.seconds[name] = round(spent, 3)
