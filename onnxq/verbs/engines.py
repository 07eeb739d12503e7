"""What TensorRT makes of a model: foreseen by the lint, and built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import open_model
from onnxq.pipeline.steps import data
from onnxq.progress import Progress, silent, stage, told

if TYPE_CHECKING:
    from onnxq.passes.name_axes import Shapes
    from onnxq.trt.build import BuildOptions, BuildResult
    from onnxq.trt.fleet import Fleet
    from onnxq.trt.rule import Finding
    from onnxq.trt.verdict import Verdict

SAMPLES = 16  # whose shapes are looked at


@dataclass(frozen=True)
class Linted:
    """findings: of `graph`, the most severe first. fixed: places that each rule's fix changed."""

    findings: tuple[Finding, ...]
    graph: Graph
    metadata: Mapping[str, str]
    fixed: dict[str, int]

    def save(self, path: str | Path) -> None:
        """Write the model, as it was fixed."""
        graphs.save(self.graph, path, metadata=self.metadata)


@dataclass(frozen=True)
class Built:
    """What came of a build. verdict: what runs in which precision, where there is an engine.
    explained: the lint's findings that explain why there is none. remove: the fewest Q/DQ without
    which it builds, where that was asked for."""

    result: BuildResult
    verdict: Verdict | None
    explained: tuple[Finding, ...] = ()
    remove: tuple[str, ...] | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an engine, and every node with Q/DQ runs as meant."""
        return self.verdict is not None and not self.verdict.missed

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        result = self.result
        built = {**asdict(result), "engine": str(result.engine or ""), "bytes": result.size}
        del built["problems"]
        document = {
            "ok": result.ok, "build": built, "problems": [str(p) for p in result.problems],
        }  # fmt: skip
        if self.verdict is not None:
            return document | {"verdict": self.verdict.as_dict()}
        document["explained"] = list(dict.fromkeys(str(f) for f in self.explained))
        return document if self.remove is None else document | {"remove": list(self.remove)}


@stage("lint")
def lint(
    model: str | Path,
    backend: str = "tensorrt",
    calib: Sequence[str] = (),
    config: Config | None = None,
) -> Linted:
    """What TensorRT will refuse, run slowly or compute differently in a model file.

    backend: "tensorrt" or "tensorrt-rtx". calib: samples, whose shapes tell axes of one name apart.
    config: how they are read.
    """
    from onnxq.trt import lint as rules

    graph, file = graphs.read(model)
    found = rules.lint(graph, backend, samples=_shapes(model, calib, config))
    return Linted(found, graph, file.metadata, {})


@stage("lint")
def mend(
    model: str | Path,
    backend: str = "tensorrt",
    calib: Sequence[str] = (),
    config: Config | None = None,
) -> Linted:
    """The same of the model with every safe fix, which `save` writes."""
    from onnxq.trt import fixes
    from onnxq.trt import lint as rules

    graph, file = graphs.read(model)
    samples = _shapes(model, calib, config)
    graph, fixed = fixes.fix(graph, samples)
    written = graphs.from_proto(graphs.to_proto(graph))
    return Linted(rules.lint(written, backend, samples=samples), graph, file.metadata, fixed)


@told
def build(
    model: str | Path,
    out: str | Path,
    options: BuildOptions | None = None,
    calib: Sequence[str] = (),
    config: Config | None = None,
    *,
    bisect: bool = False,
    progress: Progress = silent,
) -> Built:
    """Build the TensorRT engine of a model file, and say what it really runs in INT8.

    calib: data whose shapes make the profiles of dynamic inputs, where `options` has none. config:
    how it is read. bisect: where TensorRT refuses, find the fewest Q/DQ to take out. Raises
    OnnxqError for what the user can mend first.
    """
    from onnxq.model.input_shapes import profile_of
    from onnxq.trt import bisect as bisecting
    from onnxq.trt.build import BuildOptions
    from onnxq.trt.build import build as build_engine
    from onnxq.trt.engine import load_engine
    from onnxq.trt.lint import explain
    from onnxq.trt.verdict import judge

    graph, options = graphs.load(model), options or BuildOptions()
    if calib and not options.shapes:
        shapes = data(open_model(model), calib, config).shapes()
        options = replace(options, shapes=profile_of(shapes))
    result = build_engine(model, out, options=options, progress=progress)
    if result.engine is not None:
        return Built(result, judge(graph, load_engine(result.engine)))
    found = (explain(p.message, graph, p.node) for p in result.problems)
    explained = tuple(f for f in found if f is not None)
    options = replace(options, shapes=options.shapes or result.shapes)
    remove = tuple(bisecting.bisect(graph, options, progress)) if bisect else None
    return Built(result, None, explained, remove)


@told
def build_fleet(
    model: str | Path,
    archs: str = "all",
    options: BuildOptions | None = None,
    layers: Mapping[str, str | Path] | None = None,
    *,
    progress: Progress = silent,
) -> Fleet:
    """What becomes of a model file on each architecture, as it is and with FP16 around, without a
    GPU: builds or the line that refuses it, nodes in INT8, kernels, bytes moved.

    archs: "all" that TensorRT-RTX builds for, or some such as "sm89,sm120". layers: architecture ->
    file of `trtexec --exportLayerInfo`, for those that it does not build for. Raises OnnxqError for
    what the user can mend first.
    """
    from onnxq.trt.build import BuildOptions
    from onnxq.trt.fleet import architectures, fleet

    told_of = {arch: Path(path) for arch, path in (layers or {}).items()}
    return fleet(Path(model), architectures(archs), options or BuildOptions(), told_of)


def _shapes(model: str | Path, calib: Sequence[str], config: Config | None) -> list[Shapes]:
    """The shapes of the inputs in the first samples."""
    if not calib:
        return []
    dataset = data(open_model(model), calib, config)
    few = range(min(SAMPLES, len(dataset)))
    return [{name: x.shape for name, x in dataset.sample(i).items()} for i in few]
