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
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.judge.grade import Verdict, judged
from onnxq.judge.judged import judged_tensors
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.model.input_shapes import shapes_seen
from onnxq.model.model_file import ModelLike
from onnxq.passes.insert_qdq import Codes, Weight
from onnxq.passes.name_axes import name_axes_by
from onnxq.pipeline import doubts, original, remarks
from onnxq.pipeline import manifest as manifests
from onnxq.pipeline.comparing import agreement as near
from onnxq.pipeline.comparing import timing
from onnxq.pipeline.config import Config
from onnxq.pipeline.high_precision import HALF_SAMPLES
from onnxq.pipeline.manifest import Document, Manifest, Values
from onnxq.pipeline.method_choice import is_auto
from onnxq.pipeline.opened import Opened
from onnxq.pipeline.ranging import Given, Ranged, check_stats, ranged
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
    model's own metadata_props, such as class names, handed on by `write`. check: the samples that
    were compared on, read when they are asked for.
    """

    runs: Graph = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False)
    record: Manifest = field(repr=False)
    check: Dataset | None = field(default=None, repr=False, compare=False)

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
    return made(opened, chosen, config, Given(stats_from, ranges_from, learner), clock)


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
    given: Given | None = None,
    clock: Clock | None = None,
) -> Quantized:
    """An opened model, quantized by a plan; raises as `quantize`."""
    given, clock = (given or Given()).of(opened.source), clock or Clock()
    with clock("recover"):
        source, outcomes = opened.reshape(chosen, config, given.stats)
    with clock("calibrate"):
        stats = given.stats or opened.count(source, chosen, config)
        check_stats(stats, source, opened.source)
    with clock("ranges"):
        read = ranged(source, chosen, stats, given.ranges, opened, config)
        chosen, ranges = read.plan, read.ranges
    with clock("recover"):
        draft, refined = refine(source, chosen, ranges, opened.rest, config, given.learner)
        ranges = draft.ranges or ranges
    with clock("insert"):
        graph = insert(source, chosen, ranges, config, draft.codes)
        shift_biases(graph, draft.shifts)
    half, kept, runs = _high_precision(source, graph, chosen, ranges, opened.rest, config, clock)
    with clock("compare"):
        agreement, unrounded, trouble = near(opened.side, runs, config)
        timed = timing(opened.side, runs, config, trouble)
    compared = remarks.Compared(agreement, unrounded, trouble, runs)
    half_serves = config.high_precision == "fp32" and config.placement.target == "tensorrt"
    said = manifests.Remarks(
        _notes(opened, source, read, draft.codes, compared, config),
        judged(agreement, manifests.quantized_share(source.graph, chosen), half_serves),
        read.scores,
        [o.as_dict() for o in (*outcomes, *refined)],
        kept,
        len(opened.check),
        remarks.took_part(opened, chosen, given.stats, config),
        shapes_seen(opened.dataset.shapes()),
        unrounded,
        trouble,
        clock.seconds,
        timed,
        opened.dataset.feedback,
    )
    values = Values(half, chosen, stats, ranges, agreement)
    record = manifests.describe(source.file, config, values, said)
    return Quantized(**vars(values), runs=runs, metadata=source.file.metadata, record=record,
                     check=opened.check)  # fmt: skip


@stage("look at the data")
def _notes(
    opened: Opened,
    source: Source,
    read: Ranged,
    codes: Mapping[Weight, Codes],
    compared: remarks.Compared,
    config: Config,
) -> list[str]:
    """What a reader of the summary has to know of the model, the data and the comparison."""
    return [
        *source.notes,
        *original.notes(source),
        *read.notes,
        *remarks.of_model(source, read.plan, config, codes),
        *doubts.of_data(opened.source, opened.dataset, runtime_of(config)),
        *doubts.of_outputs(opened.source.graph, opened.side.outputs()),
        *remarks.of_comparison(compared, not read.scores and is_auto(config)),
    ]


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
