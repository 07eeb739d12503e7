"""Models that are quantized, whichever tool wrote them: read, held against each other, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxq.errors import DataError
from onnxq.model.graph import load
from onnxq.passes.apply import apply, run_pass
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.strip_qdq import strip_qdq
from onnxq.pipeline.config import Config
from onnxq.pipeline.feeding import as_remembered
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.source import open_model
from onnxq.pipeline.steps import data, runtime_of
from onnxq.progress import Progress, counted, silent, stage, told

if TYPE_CHECKING:
    from onnxq.calib.data import Dataset
    from onnxq.inspect.difference import Difference
    from onnxq.inspect.reading import NodeReading, Reading
    from onnxq.inspect.reasons import Reasons
    from onnxq.judge.accuracy import Agreements
    from onnxq.judge.parts import Part
    from onnxq.layers.reading import EngineReading
    from onnxq.run.runtime import Runtime
    from onnxq.trt.compare import Comparison, Thresholds
    from onnxq.trt.golden import Keep


@dataclass(frozen=True)
class Inspection:
    """A model, read. nodes, tensors: what a pattern named; None for the whole model.

    reasons: why each node is as it is. clipped: the share of values that each scale clips, where it
    was measured. engine: what ran each node, where layer info of TensorRT is given.
    """

    reading: Reading
    reasons: Reasons
    clipped: dict[str, float] | None
    nodes: list[NodeReading] | None
    tensors: list[str] | None
    engine: EngineReading | None = None

    def as_dict(self) -> dict[str, Any]:
        """A JSON document: of the model, of a node or tensor, or of several of them."""
        from onnxq.inspect import describe as documents

        if self.nodes is None or self.tensors is None:
            found = documents.describe(self.reading, self.reasons, self.clipped)
            return {**found, "nodes": self._with_runs(found["nodes"])}
        nodes = [
            documents.describe_node(self.reading, node, self.reasons, self.clipped)
            for node in self.nodes
        ]
        nodes = self._with_runs(nodes)
        tensors = [
            documents.describe_tensor(self.reading, name, self.reasons, self.clipped)
            for name in self.tensors
        ]
        if len(nodes) + len(tensors) == 1:
            return (nodes or tensors)[0]
        return {"nodes": nodes} if nodes else {"tensors": tensors}

    def _with_runs(self, nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Documents of nodes, each with what it ran in: None where the layers do not tell."""
        if self.engine is None:
            return nodes
        runs = self.engine.runs()
        return [{**node, "runs": runs.get(node["name"])} for node in nodes]


@told
def inspect_model(
    model: str | Path,
    pattern: str | None = None,
    *,
    manifest: Path | None = None,
    calib: Sequence[str] = (),
    config: Config | None = None,
    layers: str | Path | None = None,
    profile: str | Path | None = None,
    progress: Progress = silent,
) -> Inspection:
    """What of a model file is quantized, how and why, whichever tool wrote it.

    pattern: a node or tensor, or several. manifest: where the reasons are; by default beside the
    model. calib: data to measure on what the scales clip. layers, profile: what TensorRT says of
    an engine of this model, as `read_layers` takes it. Raises PlanError for a pattern that matches
    nothing, ModelError for a model that cannot be read, OnnxqError for files of another engine.
    """
    from onnxq.inspect.choose import choose
    from onnxq.inspect.clipping import clipping
    from onnxq.inspect.reading import read
    from onnxq.inspect.reasons import reasons_of
    from onnxq.layers.given import engine_of

    with stage("read"):
        config, reading = config or Config(), read(model)
        engine = engine_of(model, layers, profile)
        nodes, tensors = (None, None) if pattern is None else choose(reading, pattern)
        reasons, clipped = reasons_of(reading, manifest), None
    if calib:
        dataset = data(open_model(model), calib, config)
        clipped = clipping(reading, dataset, config)
    return Inspection(reading, reasons, clipped, nodes, tensors, engine)


@told
def diff(
    a: str | Path,
    b: str | Path,
    calib: Sequence[str] = (),
    reference: Path | None = None,
    config: Config | None = None,
    progress: Progress = silent,
) -> Difference:
    """How two quantized models differ in placement, scales, weights and constants.

    calib: data to run both on too, and `reference`, the float model. Raises ModelError for a model
    that cannot be read, DataError for a reference without data.
    """
    from onnxq.inspect.difference import difference
    from onnxq.inspect.reading import read, readable

    a, b = Path(a), Path(b)
    if reference is not None and not calib:
        raise DataError("--reference is measured on data: give --calib DATA too")
    with stage("read"), readable(a, b):
        found = difference(read(a), read(b))
    if not calib:
        return found
    effect, troubles = _effect(a, b, reference, calib, config or Config())
    return replace(found, effect=effect, troubles=troubles)


@told
def compare_models(
    reference: str | Path,
    quantized: str | Path,
    calib: CalibrationData,
    thresholds: Thresholds | None = None,
    config: Config | None = None,
    *,
    per_tensor: bool = False,
    golden: str | Path | None = None,
    layers: str | Path | None = None,
    profile: str | Path | None = None,
    seen: Keep | None = None,
    metric: str | None = None,
    progress: Progress = silent,
) -> Comparison:
    """How far a quantized model file, or an engine, is from a float one over data.

    thresholds: what has to hold; `failures` of what comes back says what does not. per_tensor:
    every tensor that both graphs have, in order. golden: where to keep inputs and outputs, as
    `save_golden` does, of the same runs. layers, profile: what TensorRT says of an engine of the
    quantized model, as `read_layers` takes it. seen: called with the number of each sample, its
    inputs, and the outputs of both. metric: `module:function` that scores both models over the
    data. Raises ModelError for models whose outputs differ in name or
    shape, RuntimeMissing where an engine cannot run, OnnxqError for files of another
    engine.
    """
    from onnxq.judge.plain import plainly
    from onnxq.layers.given import engine_of
    from onnxq.layers.ran import Ran
    from onnxq.trt import compare as trt
    from onnxq.trt.scored import metric_of, scored

    config = as_remembered(config or Config(), quantized)
    source = open_model(reference)
    judge = None if metric is None else metric_of(metric)
    trt.in_order(source, quantized)
    built_from = reference if Path(quantized).suffix in trt.ENGINES else quantized
    engine = engine_of(built_from, layers, profile)
    dataset = data(source, calib, config)
    found = trt.compare(
        Path(reference), Path(quantized), dataset, thresholds or trt.Thresholds(),
        per_tensor=per_tensor, golden=None if golden is None else Path(golden), seen=seen,
        runtime=runtime_of(config), progress=progress,
    )  # fmt: skip
    if judge is not None:
        models = Path(reference), Path(quantized)
        scores, _ = plainly(lambda run: scored(judge, models, dataset, run), runtime_of(config))
        found = replace(found, scores=scores)
    return found if engine is None else replace(found, ran=Ran(load(built_from), engine))


def _effect(
    a: Path,
    b: Path,
    reference: Path | None,
    calib: CalibrationData,
    config: Config,
) -> tuple[dict[str, Agreements], dict[str, str]]:
    """Which models -> output -> how far they are from each other on data; and which models a plain
    session cannot run, and why."""
    from onnxq.judge.plain import plainly

    config = as_remembered(config, a, b)
    dataset, parts = data(open_model(reference or a), calib, config), _parts(reference or a)
    pairs = {"B against A": (a, b)}
    if reference is not None:
        pairs |= {"A against FLOAT": (reference, a), "B against FLOAT": (reference, b)}
    found: dict[str, Agreements] = {}
    troubles: dict[str, str] = {}
    for pair, models in pairs.items():
        with stage(pair):
            measured = partial(_measured, models, dataset, parts)
            found[pair], trouble = plainly(measured, runtime_of(config))
        troubles |= {pair: trouble} if trouble else {}
    return found, troubles


def _measured(
    models: tuple[Path, Path], dataset: Dataset, parts: Sequence[Part], runtime: Runtime
) -> Agreements:
    from onnxq.judge import accuracy

    return accuracy.measure(*models, dataset, counted(2 * len(dataset)), runtime, parts=parts)


def _parts(model: Path) -> tuple[Part, ...]:
    """What the outputs of a model are judged by, whether it has Q/DQ or not; the names of the
    outputs are those of the float model."""
    from onnxq.judge.parts import slices_of

    graph = load(model)
    run_pass(strip_qdq, graph, graph)
    return slices_of(apply(graph, infer_shapes))
