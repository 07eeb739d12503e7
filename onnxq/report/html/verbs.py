"""The page of what a verb has in hand, for its `--report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnxq.calib.observed import settle
from onnxq.calib.stats import Stats
from onnxq.inspect.reading import read_graph
from onnxq.model import graph as graphs
from onnxq.pipeline.config import Config
from onnxq.pipeline.runtimes import runtime_of
from onnxq.pipeline.source import Source
from onnxq.pipeline.steps import insert, read
from onnxq.plan import Plan
from onnxq.report.html.evidence import Document, Evidence, planned
from onnxq.report.html.gathering import Sources, gather
from onnxq.report.html.weights import float_graph, weight_errors
from onnxq.report.pictures import looked_at, pictures_for
from onnxq.trt.compare import ENGINES

if TYPE_CHECKING:
    from onnxq.pipeline.quantize import Quantized
    from onnxq.trt.compare import Comparison


def quantized(
    result: Quantized, name: str, commands: tuple[str, ...], model: Path | None = None
) -> Evidence:
    """What `quantize` has, after `write` has put the size into its manifest. model: the float one,
    whose weights are compared with the rounded ones."""
    manifest, plan = result.manifest, result.plan
    reasons = replace(
        planned(plan, result.ranges),
        note="as its manifest says",
        config=manifest["config"],
        recovered=manifest["recovered"],
        samples=result.stats.samples,
    )
    reading = read_graph(result.graph, Path(name))
    floats = None if model is None else float_graph(model, model.parent, manifest)
    weights = weight_errors(reading, floats)
    return Evidence(name, result.graph, reading, reasons, manifest, result.stats,
                    commands=commands, weights=weights)  # fmt: skip


def pictured(result: Quantized, model: Path, config: Config) -> Sequence[Document]:
    """The samples that `quantize` compared on, as pictures: the first few, run for that. None where
    the model reads other inputs than the file that it was made of."""
    if result.check is None or config.io != "keep":
        return ()
    quantized = graphs.to_proto(result.runs)
    return looked_at(pictures_for(model), model, quantized, result.check, runtime_of(config))


def foreseen(
    source: Source, plan: Plan, stats: Stats, config: Config, commands: tuple[str, ...]
) -> Evidence:
    """What `sensitivity` and `search` have: the model as `plan` would make it, unrecovered.

    Raises OnnxqError as `read` and `insert` do.
    """
    ranges = read(source, plan, stats, config.method)
    settled, _ = settle(source.graph, plan, ranges)
    graph = insert(source, settled, ranges, config)
    name = source.path.name
    reading = read_graph(graph, source.path)
    return Evidence(name, graph, reading, planned(settled, ranges), None, stats, commands=commands)


def compared(
    reference: Path,
    model: Path,
    found: Comparison,
    commands: tuple[str, ...],
    layers: Path | None = None,
    profile: Path | None = None,
    pictures: Sequence[Document] = (),
) -> Evidence:
    """What `compare` has: the quantized model with its manifest, the float one for an engine; what
    TensorRT says of an engine; samples as pictures."""
    shown = reference if model.suffix in ENGINES else model
    evidence = gather(shown, Sources(layers=layers, profile=profile), commands)
    return replace(evidence, name=model.name, comparison=found.as_dict(),
                   pictures=pictures)  # fmt: skip
