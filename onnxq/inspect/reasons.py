"""Why a node of a quantized model is quantized or not, and where its scales came from.

From the manifest beside the model where there is one. Else onnxq's own placement rules are run on
the model without its Q/DQ, with the options that fit what is there: they say what onnxq would do,
not what another tool thought.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from onnxq.calib.methods import method_name
from onnxq.errors import DataError, OnnxqError
from onnxq.inspect.reading import NodeReading, Reading
from onnxq.inspect.tensors import QuantizedTensor
from onnxq.json_text import from_json
from onnxq.pipeline.config import Config
from onnxq.pipeline.manifest import FORM, TIMES, hash_of
from onnxq.pipeline.source import prepare
from onnxq.targets import placement
from onnxq.targets.options import PlanOptions
from onnxq.words import count

WRITTEN_AFTER = ("kind", "version", "output")  # keys that the hash in the model does not cover
RULES = {  # the first part of a rule's name -> what it says
    "weighted": "every {op} is quantized unless a rule or an option leaves it float",
    "residual": "a residual Add reads its skip branch as other nodes do, quantized",
    "pool": "a Concat of a tensor with max pools of itself shares its scale",
    "not": "a {op} that has no FP4 kernel gets another type",
    "concat": "branches of a Concat whose output is quantized are quantized too",
    "kernel": "ONNX Runtime has a kernel for {op} on codes",
    "reads": "what it reads is written as codes",
    "fixed": "every tensor is quantized in a fixed-point scheme",
    "attribute": "a {op} carries its ranges as attributes",
}
SCHEMES = {  # types of weights and activations -> scheme
    ("INT8", "INT8"): "w8a8", ("INT8", "UINT8"): "w8a8", ("INT8", ""): "w8a16",
    ("INT4", ""): "w4a16", ("INT4", "INT8"): "w4a8", ("FP8", "FP8"): "fp8",
    ("FP4", "FP4"): "nvfp4",
    ("INT4", "FP8"): "w4afp8", ("INT8", "INT16"): "w8aint16", ("INT16", "INT16"): "w16a16",
    ("Q8.8", "Q8.8"): "fixed88",
}  # fmt: skip


@dataclass(frozen=True)
class Reasons:
    """source: who says so. note: that in a line. quantized: node -> rule. left: node -> why it is
    float. config: the options of the run. ranges: tensor -> its entry in the manifest. same_values:
    tensor -> the tensor whose range it takes. tied: tensors that share a range. recovered: what
    each recovery did. samples: calibrated on; None where that is not known."""

    source: Literal["manifest", "rules", "none"]
    note: str
    quantized: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    same_values: Mapping[str, str] = field(default_factory=dict)
    tied: Sequence[Sequence[str]] = ()
    recovered: Sequence[Mapping[str, Any]] = ()
    samples: int | None = None

    def why(self, node: NodeReading) -> str:
        """Why `node` is quantized or not, in a line."""
        rule, reason = self.quantized.get(node.name), self.left.get(node.name)
        said = RULES.get((rule or "").split("-")[0], "").format(op=node.op)
        said = f"{said} (rule {rule})" if said else f"rule {rule}"
        nothing = f"no rule asks for Q/DQ at this {node.op}"
        if self.source == "none":
            return "not known"
        if self.source == "manifest":
            if node.quantized and rule is None:
                return "changed since it was written: the manifest has it in float"
            if not node.quantized and rule is not None:
                return f"changed since it was written, or its ranges are attributes: {said}"
            return said if rule is not None else reason or nothing
        if node.quantized:
            return f"by its tool; onnxq would too: {said}" if rule else (
                f"by its tool; onnxq would not: {reason or nothing}")  # fmt: skip
        return f"onnxq would quantize it: {said}" if rule else reason or nothing

    def range_of(self, tensor: QuantizedTensor) -> Mapping[str, Any] | None:
        """The manifest's entry of an activation: amax, method, sat_ratio, expected_error."""
        return self.ranges.get(self.same_values.get(tensor.name, tensor.name))

    def origin(self, tensor: QuantizedTensor) -> str:
        """Where the scale of a tensor came from, in a line."""
        if tensor.kind == "bias":
            return "scale of the activation x scale of the weight, as integer kernels add it"
        if tensor.kind == "weight":
            return self._weight_origin(tensor)
        found, source = self.range_of(tensor), self.same_values.get(tensor.name)
        if found is None:
            return "not known: the model does not say, and no manifest does"
        origin = f"method {method_name(found['method'])}"
        if self.samples:
            origin += f" over {count(self.samples, 'sample')}"
        if source:
            origin += f", of '{source}', whose values it has"
        group = next((g for g in self.tied if (source or tensor.name) in g), ())
        others = [name for name in group if name != (source or tensor.name)]
        return origin + (f", tied with {', '.join(map(repr, others))}" if others else "")

    def _weight_origin(self, tensor: QuantizedTensor) -> str:
        if self.source == "manifest":
            return f"the weights, --weight-method {self.config.get('weight_method', 'max')}"
        return "the weights"

    def recovered_by(self, node: NodeReading) -> dict[str, float]:
        """Recovery -> what it gained at `node`, in dB."""
        return {
            found["algorithm"]: found["gain_db"][node.name]
            for found in self.recovered
            if node.name in found.get("gain_db", ())
        }


def reasons_of(reading: Reading, manifest: Path | None = None) -> Reasons:
    """The reasons of a model; `manifest` names a file that is not beside it.

    Raises DataError where `manifest` is not the manifest of this model.
    """
    beside = reading.path.with_name(f"{reading.path.name}.manifest.json")
    path = manifest or beside
    if not path.is_file():
        if manifest is not None:
            raise DataError(f"no manifest at '{manifest}'; 'onnxq quantize' writes one beside OUT")
        return _by_rules(reading, "no manifest beside it")
    document = _document(path)
    trouble = "is not a manifest" if document is None else _mismatch(document, reading)
    if document is None or trouble is not None:
        if manifest is not None:
            raise DataError(f"'{path}' {trouble}; give the one that was written with this model")
        return _by_rules(reading, f"'{path.name}' {trouble}")
    return Reasons(
        "manifest",
        f"as '{path.name}' says",
        document["quantized_nodes"],
        document["float_nodes"],
        document["config"],
        document["tensors"],
        document.get("same_values", {}),
        document.get("tied", ()),
        document.get("recovered", ()),
        document["data"]["samples"],
    )


def _document(path: Path) -> dict[str, Any] | None:
    """A manifest, None for any other file."""
    try:
        found = from_json(path.read_text("utf-8"))
    except ValueError:
        return None
    whole = {"quantized_nodes", "float_nodes", "config", "tensors", "data"}
    is_one = isinstance(found, dict) and found.get("kind") == FORM.kind and whole <= found.keys()
    return found if is_one else None


def _mismatch(document: Mapping[str, Any], reading: Reading) -> str | None:
    """Why a manifest is not that of the model; None if it is, or the model does not say."""
    known = reading.metadata.get("onnxq.manifest_sha256")
    if known is None:
        return None if reading.path.name == document.get("output", {}).get("path") else (
            "is of another model")  # fmt: skip
    forms = (WRITTEN_AFTER, {*WRITTEN_AFTER, *TIMES})  # onnxq 0.1 counted the times too
    if known in (hash_of(document, without) for without in forms):
        return None
    return "is of another model"


def _by_rules(reading: Reading, why: str) -> Reasons:
    """What onnxq's own rules say of the model without its Q/DQ."""
    scheme, target = _options_like(reading)
    config = Config(placement=PlanOptions(target=target, scheme=scheme), requantize=True)
    told = f"--target {target} --scheme {scheme}"
    try:
        source = prepare(reading.path, config)
        plan = placement.plan(source.graph, config.placement, source.sha256)
    except OnnxqError as e:
        return Reasons("none", f"{why}, and onnxq's own rules cannot be run: {e}")
    note = f"{why}; by onnxq's own rules, run without its Q/DQ ({told})"
    if not any(node.quantized for node in reading.nodes):
        note = f"it is not quantized; by onnxq's own rules ({told})"
    return Reasons("rules", note, plan.rules, plan.skipped, same_values=plan.source)


def _options_like(reading: Reading) -> tuple[str, str]:
    """(scheme, target) that fit the types of most weighted nodes."""
    pairs: Counter[tuple[str, str]] = Counter()
    for node in reading.nodes:
        weights = [g.label for g in node.grids if g.kind == "weight"]
        others = [g.label for g in node.grids if g.kind == "activation"]
        if node.weighted and weights:
            pairs[weights[0], others[0] if others else ""] += 1
    types = pairs.most_common(1)[0][0] if pairs else ("INT8", "INT8")
    scheme = SCHEMES.get(types, "w8a8")
    in_codes = types[1] == "UINT8" or scheme in ("w8aint16", "w16a16", "fixed88")
    return scheme, "onnxruntime" if in_codes else "tensorrt"
