"""The verbs: compositions of the modules below, no algorithms.

quantize = prepare, plan, calibrate, read ranges, insert Q/DQ, recover, compare, write
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxq import files
from onnxq.calib.data import Dataset
from onnxq.calib.holdout import held_out
from onnxq.calib.observed import settle
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.errors import DataError
from onnxq.judge.accuracy import Agreements
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.model.input_shapes import shapes_seen
from onnxq.passes.name_axes import name_axes_by
from onnxq.pipeline import manifest as manifests
from onnxq.pipeline import original, remarks
from onnxq.pipeline.comparing import FloatSide
from onnxq.pipeline.comparing import agreement as near
from onnxq.pipeline.config import Config
from onnxq.pipeline.high_precision import HALF_SAMPLES
from onnxq.pipeline.method_choice import choose, is_auto
from onnxq.pipeline.recoveries import recover, refine, reshape
from onnxq.pipeline.source import Source, open_model, prepare
from onnxq.pipeline.steps import (
    as_attributes,
    calibrate,
    compare,
    data,
    insert,
    plan,
    read,
    refuse_empty,
    refuse_unsound,
    runtime_of,
    to_high_precision,
    write_biases,
)
from onnxq.plan import Plan
from onnxq.progress import Progress, silent
from onnxq.recover.sites import shift_biases
from onnxq.run.runtime import release_free_memory
from onnxq.sensitivity import sensitivity as sensitivity
from onnxq.table import Folded, page
from onnxq.verbs.calibrating import Calibrated, calibrate_model
from onnxq.verbs.doctor import doctor
from onnxq.verbs.engines import Built, Linted, build, lint, mend
from onnxq.verbs.evaluation import Evaluation
from onnxq.verbs.models import Inspection, compare_models, diff, inspect_model
from onnxq.verbs.plots import plot_histogram, plot_pareto, plot_ranking
from onnxq.verbs.ranking import Ranked, rank_nodes
from onnxq.verbs.saving import merge_stats, write_data, write_prepared, write_report
from onnxq.verbs.searching import Searched, recipe, search_plan

__all__ = [
    "Built",
    "Calibrated",
    "Evaluation",
    "Inspection",
    "Linted",
    "Quantized",
    "Ranked",
    "Searched",
    "Source",
    "build",
    "calibrate",
    "calibrate_model",
    "compare",
    "compare_models",
    "data",
    "diff",
    "doctor",
    "insert",
    "inspect_model",
    "lint",
    "make_plan",
    "mend",
    "merge_stats",
    "open_model",
    "plan",
    "plot_histogram",
    "plot_pareto",
    "plot_ranking",
    "prepare",
    "quantize",
    "rank_nodes",
    "read",
    "read_ranges",
    "recipe",
    "recover",
    "runtime_of",
    "search_plan",
    "sensitivity",
    "to_high_precision",
    "write",
    "write_data",
    "write_prepared",
    "write_report",
]

make_plan, read_ranges = plan, read  # the names of these verbs where others are in the way


@dataclass(frozen=True)
class Quantized:
    """What `quantize` returns: the Q/DQ graph, every value on the way to it, and the manifest.

    metadata: the source model's own metadata_props, such as class names, handed on by `write`.
    """

    graph: Graph
    plan: Plan
    stats: Stats
    ranges: Ranges
    agreement: Agreements
    metadata: Mapping[str, str] = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        outputs = [f"'{name}' {a.sqnr_db:.2f} dB" for name, a in self.agreement.items()]
        outputs += [f"'{n}' {100 * e.share:.2f}% equal" for n, e in self.agreement.exact.items()]
        nodes = f"{len(self.plan.nodes)} nodes quantized, {len(self.plan.skipped)} float"
        return f"Quantized({nodes}; {', '.join(outputs) or 'not compared'})"

    def _repr_html_(self) -> str:
        found = self.agreement
        outputs = [found.table()] if found else []
        return page("Quantized", *outputs, *found.lines(), self.plan, Folded("ranges", self.ranges))


def quantize(
    model: str | Path,
    calib: Sequence[str],
    config: Config | None = None,
    *,
    plan_from: Plan | None = None,
    stats_from: Stats | None = None,
    progress: Progress = silent,
) -> Quantized:
    """The whole pipeline on a model file and calibration data; writes nothing.

    `plan_from` and `stats_from` replace the plan and the calibration by saved ones, which must be
    of this model. Raises OnnxqError subclasses for whatever the user can mend.
    """
    config = config or Config()
    clock = _Clock()
    with clock("prepare"):
        source = float_source = prepare(model, config, plan_from)
    with clock("plan"):
        chosen = plan_from or plan(source, config)
        chosen.check_model(source.sha256)
        refuse_empty(chosen, source)
        refuse_unsound(chosen, source)
    with clock("calibrate"):
        dataset = data(source, calib, config)
        original.hold(source, dataset, runtime_of(config))
        rest, check = held_out(dataset, config.check_samples)
    with clock("recover"):
        source, outcomes = reshape(source, chosen, rest, config, progress, stats_from)
    with clock("calibrate"):
        stats = stats_from or calibrate(source, chosen, rest, config, progress)
        _check_stats(stats, source, float_source)
    with clock("ranges"):
        ranges, scores = choose(source, chosen, stats, check, config, progress)
        unseen = {name for name, seen in stats.histograms.items() if not seen.count}
        chosen, notes = settle(source.graph, chosen, ranges, unseen)
        refuse_empty(chosen, source)
    with clock("recover"):
        draft, refined = refine(source, chosen, ranges, rest, config, progress)
        ranges = draft.ranges or ranges
    with clock("insert"):
        graph = insert(source, chosen, ranges, config, draft.codes)
        shift_biases(graph, draft.shifts)
    half, kept, runs = _high_precision(source, graph, chosen, ranges, rest, config, clock)
    with clock("compare"):
        side = FloatSide(float_source, check)
        agreement, unrounded, trouble = near(side, runs, config, progress)
    metadata = source.file.metadata
    result = Quantized(half, chosen, stats, ranges, agreement, metadata, {})
    recovered = [o.as_dict() for o in (*outcomes, *refined)]
    compared = remarks.Compared(agreement, unrounded, trouble, runs)
    notes = [*source.notes, *original.notes(source), *notes]
    notes += remarks.of_model(source, chosen, config, draft.codes)
    notes += remarks.of_comparison(compared, not scores and is_auto(config))
    took = remarks.took_part(dataset, rest, check, chosen, stats_from, config)
    shapes = shapes_seen(dataset.shapes())
    said = manifests.Remarks(
        notes, scores, recovered, kept, len(check), took, shapes, clock.seconds
    )
    result.manifest.update(manifests.describe(source.file, config, result, said))
    result.manifest["agreement"] |= {
        "session": trouble or "plain",
        "unrounded": {name: a.as_dict() for name, a in unrounded.items()},
    }
    return result


def _high_precision(
    source: Source,
    graph: Graph,
    plan: Plan,
    ranges: Ranges,
    dataset: Dataset,
    config: Config,
    clock: _Clock,
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
        few = range(min(HALF_SAMPLES, len(dataset)))
        name_axes_by(half, ({k: x.shape for k, x in dataset.sample(i).items()} for i in few))
    return half, kept, runs


def _check_stats(stats: Stats, source: Source, float_source: Source) -> None:
    """Raises DataError unless the statistics are those of the graph that is quantized."""
    if source is not float_source and stats.model == float_source.sha256:
        raise DataError(
            "the statistics are of the model as it is, and channels, smooth or equalize changed "
            "it; leave out --stats, or those recoveries"
        )
    stats.check_model(source.sha256)


def write(result: Quantized, out: str | Path, config: Config | None = None) -> None:
    """Write the model to `out` and its manifest to `<out>.manifest.json`, both or neither.

    The manifest in `result` gains the output's path and size; a digest of it goes into the model.
    """
    config = config or Config()
    out = Path(out)
    external = config.external_data or bool(result.manifest["model"].get("external_data"))
    with files.together():
        metadata = {**result.metadata, **manifests.digest(result.manifest)}
        size = graphs.save(result.graph, out, metadata, external)
        result.manifest["output"] = {"path": out.name, "bytes": size}
        manifests.save(result.manifest, out.with_name(out.name + ".manifest.json"))


class _Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        release_free_memory()  # what one stage needed must not stand beside the next one's peak
        spent = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.seconds[stage] = round(spent, 3)
