"""Evidence from files, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnxq.calib.ranges import Range
from onnxq.calib.stats import Stats
from onnxq.errors import DataError
from onnxq.inspect.reading import read_graph
from onnxq.inspect.reasons import reasons_of
from onnxq.layers.given import engine_of
from onnxq.layers.profile import load_profile
from onnxq.layers.ran import Ran
from onnxq.layers.reading import EngineReading
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.name_nodes import name_nodes
from onnxq.report.html import sections
from onnxq.report.html.documents import (
    COMPARISON,
    ENGINE,
    FLEET,
    MANIFEST,
    check_model,
    check_readable,
    load_document,
)
from onnxq.report.html.evidence import Document, Evidence
from onnxq.report.html.headline import verdict_of
from onnxq.report.html.layers import of_layers, with_runs
from onnxq.report.html.provenance import told
from onnxq.report.html.summary import manifest_cards, score_cards
from onnxq.report.html.weights import float_graph, reshaped, weight_errors
from onnxq.report.pictures import pictures_of
from onnxq.search.result import Result
from onnxq.sensitivity.ranking import Ranking
from onnxq.trt.engine import load_engine
from onnxq.trt.golden import load
from onnxq.trt.verdict import judge


@dataclass(frozen=True)
class Sources:
    """Files beside the model; None is not given."""

    manifest: Path | None = None
    stats: Path | None = None
    ranking: Path | None = None
    search: Path | None = None
    engine: Path | None = None
    comparison: Path | None = None
    fleet: Path | None = None
    layers: Path | None = None
    profile: Path | None = None
    float_profile: Path | None = None
    float_model: Path | None = None
    compare: Path | None = None
    golden: Path | None = None
    draw: str | None = None


def gather(model: Path, sources: Sources, commands: tuple[str, ...] = ()) -> Evidence:
    """What is known of a model file; its manifest is looked for beside it.

    Raises OnnxqError for files that are not what they should be, or were made for another model.
    """
    graph, file = graphs.read(model)
    graph, metadata = apply(graph, name_nodes, infer_shapes), file.metadata
    reading = read_graph(graph, model, metadata=metadata)
    reasons = reasons_of(reading, sources.manifest)
    manifest = None
    if reasons.source == "manifest":  # one that is the model's
        manifest = load_manifest(sources.manifest or model.with_name(f"{model.name}.manifest.json"))
    given = metadata.get("onnxq.source_model")
    float_model = given if manifest is None else str(manifest["model"]["sha256"])
    floats = float_graph(sources.float_model, model.parent, manifest)
    stats = Stats.load(sources.stats) if sources.stats else None
    ranking = Ranking.load(sources.ranking) if sources.ranking else None
    search = Result.load(sources.search) if sources.search else None
    for value, what in ((ranking, f"the ranking '{sources.ranking}' was"),
                        (search, f"the search '{sources.search}' was")):  # fmt: skip
        if value is not None:
            check_model(float_model, value.model, what)
    if stats is not None and not reshaped(manifest):
        check_model(float_model, stats.model, f"the statistics '{sources.stats}' were")
    engine = engine_of(model, sources.layers, sources.profile)
    ran = None if engine is None else Ran(graph, engine)
    return Evidence(
        model.name,
        graph,
        reading,
        reasons,
        manifest,
        stats,
        ranking,
        search,
        _ran(graph, engine, sources),
        _comparison(sources.comparison, ran) if sources.comparison else None,
        _fleet(sources.fleet) if sources.fleet else None,
        commands,
        weight_errors(reading, floats),
        _beside(sources.compare, float_model) if sources.compare else None,
        _pictures(graph, metadata, sources),
    )


def _pictures(graph: Graph, metadata: Mapping[str, str], sources: Sources) -> Sequence[Document]:
    """Samples of golden outputs as pictures; raises DataError where none can be drawn."""
    if sources.golden is None:
        if sources.draw is not None:
            raise DataError("--draw needs samples: give --golden, which 'onnxq compare "
                            "--save-golden' writes")  # fmt: skip
        return ()
    golden, pictures = load(sources.golden), pictures_of(graph, metadata, sources.draw)
    for i in range(golden.samples):
        pictures(i, *(golden.all_of(side, i) for side in ("input", "float", "quantized")))
    if not (found := pictures.shown()):
        raise DataError(f"nothing in '{sources.golden}' can be drawn: no detections on an image, "
                        "no output with its two axes; give --draw module:function")  # fmt: skip
    return found


def _beside(path: Path, float_model: str | None) -> Evidence:
    """Another model of the same float model, which is shown beside the page's own."""
    found = gather(path, Sources())
    source = found.reading.metadata.get("onnxq.source_model")
    if source is not None:
        check_model(float_model, source, f"'{path}' was")
    return found


def load_manifest(path: Path) -> Document:
    """A manifest; raises DataError for any other file."""
    document = load_document(path, MANIFEST, "onnxq quantize")

    def read() -> None:
        for entry in document["tensors"].values():
            Range(**entry)
        manifest_cards(document)
        verdict_of(document)
        told(document)
        sections.agreement(document)

    check_readable(path, "onnxq quantize", read)
    return document


def _ran(graph: Graph, reading: EngineReading | None, sources: Sources) -> Document | None:
    """What an engine runs: by TensorRT's layer info, by `onnxq build`, or None."""
    before = sources.float_profile
    if before is not None and sources.profile is None:
        raise DataError("--float-profile is compared with --profile: give that, and --layers, too")
    if reading is None:
        return _engine(graph, sources.engine) if sources.engine else None
    if sources.engine is not None:
        raise DataError("--engine and --layers each say what an engine runs; give one of them")
    return of_layers(reading, None if before is None else load_profile(before).total_ms)


def _engine(graph: Graph, path: Path) -> Document:
    """The document of `onnxq build --json`, or one made of the engine itself."""
    if not path.is_file():
        raise DataError(f"no engine at '{path}'; 'onnxq build' makes one")
    with path.open("rb") as file:
        is_document = file.read(1) in (b"{", b"[", b"")
    if is_document:
        document = load_document(path, ENGINE, "onnxq build --json")
        check_readable(path, "onnxq build --json", lambda: sections.engine(document))
        return document
    engine = load_engine(path)
    build: dict[str, Any] = {"engine": path.name, "bytes": path.stat().st_size}
    build["arch"] = " ".join(engine.accelerators)
    listing = [asdict(kernel) for kernel in engine.kernels]
    verdict = judge(graph, engine).as_dict()
    return {"ok": True, "build": build, "verdict": verdict, "listing": listing}


def _fleet(path: Path) -> Document:
    made_by = "onnxq build --arch all --json"
    document = load_document(path, FLEET, made_by)
    check_readable(path, made_by, lambda: sections.fleet(document))
    return document


def _comparison(path: Path, ran: Ran | None) -> Document:
    document = load_document(path, COMPARISON, "onnxq compare --json")

    def read() -> None:
        sections.comparison(document)
        score_cards(document)

    check_readable(path, "onnxq compare --json", read)
    return document if ran is None else with_runs(document, ran)
