"""The manifest: everything a quantizing run decided and measured, as one JSON document.

It is written beside the model as `<model>.manifest.json`; a digest of it goes into the model's own
metadata_props, so that a model alone still says where it came from.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from onnxq import __version__
from onnxq.calib.preprocess import preprocess_of
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.files import write_text
from onnxq.json_text import plain
from onnxq.judge.accuracy import Agreement, Agreements
from onnxq.judge.grade import Verdict
from onnxq.model.feedback import FED
from onnxq.model.graph import Graph, constant_of, within
from onnxq.model.input_shapes import SEEN, InputShape, documented
from onnxq.model.model_file import ModelFile
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.saved import FileForm
from onnxq.words import count

TIMES = ("seconds", "timing")  # of a manifest, what two equal runs do not share
FORM = FileForm("onnxq.manifest", 1)
Document = dict[str, Any]
SHARE, LEAST_BYTES = 0.05, 100_000  # of the weights in float of an op from which on it is told
PACKAGES = ("onnx", "onnxruntime", "onnxruntime-gpu", "onnx-graphsurgeon", "numpy")


def versions() -> dict[str, str]:
    """Versions of onnxq, Python and the packages that make the numbers."""
    found = {"onnxq": __version__, "python": platform.python_version()}
    return found | {name: v for name in PACKAGES if (v := version_of(name))}


def version_of(package: str) -> str | None:
    """Version of an installed package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def node_counts(graph: Graph, plan: Plan) -> dict[str, Any]:
    """How many nodes the plan quantizes, by op type, and why the others stay float."""
    ops = {node.name: node.op for node in within(graph.nodes)}
    return {
        "quantized": dict(Counter(ops[n] for n in plan.nodes).most_common()),
        "precisions": [
            {"precision": what, "op": op, "nodes": count}
            for (what, op), count in Counter(
                (plan.precision(n), ops[n]) for n in plan.nodes
            ).most_common()
        ],
        "float": dict(Counter(plan.skipped.values()).most_common()),
        "float_weights": float_weights(graph),
        "in_graph": len(graph.nodes),
    }


def float_weights(graph: Graph) -> list[dict[str, Any]]:
    """The ops that hold weights in float, with how many nodes and bytes, the most first; nothing
    of what is little."""
    found: dict[str, list[int]] = {}
    total = 0
    for node in within(graph.nodes):
        held = [c for t in node.inputs if (c := constant_of(t)) is not None]
        total += sum(c.nbytes for c in held)
        floats = sum(c.nbytes for c in held if c.dtype.kind == "f")
        if floats and node.op not in ("QuantizeLinear", "DequantizeLinear"):
            found.setdefault(node.op, []).append(floats)
    told = {op: each for op, each in found.items() if sum(each) >= max(SHARE * total, LEAST_BYTES)}
    most = sorted(told.items(), key=lambda item: -sum(item[1]))
    return [{"op": op, "nodes": len(each), "bytes": sum(each)} for op, each in most]


def quantized_share(graph: Graph, plan: Plan) -> float:
    """The share of the weights, matrices that nodes do more with than to look up a row, which the
    plan quantizes; 1 without any."""
    sizes = {
        node.name: sum(
            c.size for t in node.inputs if (c := constant_of(t)) is not None and c.ndim > 1
        )
        for node in within(graph.nodes)
        if node.op != "Gather"
    }
    total = sum(sizes.values())
    return sum(sizes[n] for n in plan.nodes if n in sizes) / total if total else 1.0


@dataclass(frozen=True)
class Remarks:
    """What a run has to say beside its values.

    notes: lines for the user. verdict: in one line. auto: method -> mean SQNR at the outputs, if
    `auto` chose. recovered: what each recovery did, in order. kept: nodes that stay FP32 in a half
    graph.
    check_samples: compared on. seen: what part they took before, such as "of the calibration";
    empty for samples held out of everything. shapes: of the inputs in the data.
    unrounded: agreement of the parts where TensorRT has another. trouble: why a plain session
    cannot run the model, else empty. seconds: per stage.
    timing: of both models, for ONNX Runtime. feedback: output -> the input that it becomes.
    """

    notes: list[str]
    verdict: Verdict | None
    auto: Mapping[str, float]
    recovered: Sequence[Mapping[str, Any]]
    kept: Mapping[str, str]
    check_samples: int
    seen: str
    shapes: Sequence[InputShape]
    unrounded: Mapping[str, Agreement]
    trouble: str
    seconds: Mapping[str, float]
    timing: Mapping[str, float] | None = None
    feedback: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Values:
    """The values of a run: the Q/DQ graph, and what led to it."""

    graph: Graph
    plan: Plan
    stats: Stats
    ranges: Ranges
    agreement: Agreements


@dataclass(frozen=True)
class Manifest:
    """What a run decided and measured.

    repeat: commands that compare the models again. output: what was written, once it is.
    """

    versions: Mapping[str, str]
    config: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    nodes: Mapping[str, Any]
    agreement: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Any]]
    quantized_nodes: Mapping[str, str]
    float_nodes: Mapping[str, str]
    same_values: Mapping[str, str]
    tied: Sequence[Sequence[str]]
    kept_fp32: Mapping[str, str]
    auto: Mapping[str, float]
    recovered: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    seconds: Mapping[str, float]
    verdict: Mapping[str, str | float] | None = None
    timing: Mapping[str, float] | None = None
    repeat: Sequence[str] | None = None
    output: Mapping[str, Any] | None = None

    def document(self) -> Document:
        """Its JSON document."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {key: value for key, value in found.items() if value is not None}


def samples_of(agreement: Mapping[str, Any]) -> str:
    """The samples that a manifest's models were compared on: `8 held-out samples`, or what part
    they took before."""
    number, seen = agreement["samples"], agreement.get("seen", "")
    held = "held-out " if seen == "" and "seen" in agreement else ""
    return f"{count(number, f'{held}sample')}{' ' if seen else ''}{seen}"


def describe(file: ModelFile, config: Config, values: Values, remarks: Remarks) -> Manifest:
    """The manifest of a run, before its output is written."""
    plan, stats, headline = values.plan, values.stats, values.agreement.headline
    along = {name: a.as_dict() for name, a in values.agreement.along.items()}
    matched = {name: f.as_dict() for name, f in values.agreement.matched.items()}
    return Manifest(
        versions=versions(),
        config=config.flat(),
        model={
            "path": file.path.name,
            "sha256": plan.model,
            "bytes": file.bytes,
            "external_data": list(file.external),
        },
        data={
            "digest": stats.data,
            "samples": stats.samples,
            **_preprocess(config),
            "shapes": documented(remarks.shapes),
            **({"feedback": dict(remarks.feedback)} if remarks.feedback else {}),
        },
        nodes=node_counts(values.graph, plan),
        agreement={
            "samples": remarks.check_samples,
            "seen": remarks.seen,
            "headline": None if headline is None else headline.as_dict(),
            "parts": {name: a.with_spread() for name, a in values.agreement.judged.items()},
            "outputs": {name: a.as_dict() for name, a in values.agreement.items()},
            "exact": {name: e.as_dict() for name, e in values.agreement.exact.items()},
            **({"along": along} if along else {}),
            **({"matched": matched} if matched else {}),
            "left_out": dict(values.agreement.left_out),
            "session": remarks.trouble or "plain",
            "unrounded": {name: a.as_dict() for name, a in remarks.unrounded.items()},
        },
        tensors={name: asdict(r) for name, r in values.ranges.tensors.items()},
        quantized_nodes=dict(plan.rules),
        float_nodes=dict(plan.skipped),
        same_values=dict(plan.source),
        tied=[list(group) for group in plan.tied],
        kept_fp32=dict(remarks.kept),
        auto=dict(remarks.auto),
        recovered=[dict(found) for found in remarks.recovered],
        notes=list(remarks.notes),
        verdict=None if remarks.verdict is None else remarks.verdict.as_dict(),
        seconds=dict(remarks.seconds),
        timing=remarks.timing,
    )


def _preprocess(config: Config) -> dict[str, Any]:
    """How images became inputs, as a file for --preprocess says it; nothing for arrays."""
    named = config.preprocess
    return {"preprocess": preprocess_of(named).as_dict()} if named is not None else {}


def digest(manifest: Manifest) -> dict[str, str]:
    """What goes into the model's metadata_props: where the model came from, in short.

    How long it took is left out, so that two equal runs write the same bytes.
    """
    nodes = manifest.nodes
    return {
        "onnxq.version": __version__,
        "onnxq.source_model": manifest.model["sha256"],
        "onnxq.calibration_data": manifest.data["digest"],
        "onnxq.method": manifest.config["method"],
        "onnxq.quantized_nodes": str(sum(nodes["quantized"].values())),
        "onnxq.float_nodes": str(sum(nodes["float"].values())),
        SEEN: json.dumps(manifest.data["shapes"]),
        **({FED: json.dumps(fed)} if (fed := manifest.data.get("feedback")) else {}),
        "onnxq.manifest_sha256": hash_of(manifest.document(), TIMES),
    }


def hash_of(manifest: Mapping[str, Any], without: Collection[str]) -> str:
    """The hash of a manifest, some of its keys left out."""
    covered = {key: value for key, value in manifest.items() if key not in without}
    return hashlib.sha256(json.dumps(plain(covered), sort_keys=True).encode()).hexdigest()


def save(manifest: Manifest, path: Path) -> None:
    """Write the manifest, whole or not at all."""
    write_text(path, FORM.to_json(manifest.document()))
