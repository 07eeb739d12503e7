"""Lint against TensorRT-RTX itself: what it calls fine builds, what it calls float runs in float.

The graphs: every case of lint_cases.py, what ONNX Runtime's quantizer makes of the fixtures with
its defaults and with options, and what onnxq makes of them.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxq_cli.main import run

from onnxq.model.graph import Graph, load
from onnxq.trt.lint import BACKENDS, Finding, explain, is_refused, lint

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared" / "models"
sys.path.insert(0, str(HERE))  # for the table of cases beside this file
from lint_cases import CASES, model  # noqa: E402

FIXTURES = {
    "backbone": ("centerpoint/backbone_neck_head.onnx", "calib.npy"),
    "voxel_encoder": ("centerpoint/voxel_encoder.onnx", "voxel_encoder_calib.npy"),
    "classifier": ("classifier/classifier.onnx", "calib.npy"),
    "transformer": ("transformer/transformer.onnx", "calib.npz"),
    "yolo_like": ("yolo_like/yolo_like.onnx", "calib.npy"),
}
FLOAT_FOR_US = ("voxel_encoder",)  # its one product is too narrow: onnxq has nothing to quantize
REAL = ("resnet20",)
OURS = {
    "default": (),
    "fp16": ("--high-precision", "fp16"),
    "per tensor": ("--weights", "per-tensor", "--weights-as", "float"),
    **{scheme: ("--scheme", scheme, "--recover", "none")
       for scheme in ("w8a16", "w4a16", "w4a8", "fp8", "w4afp8")},
}  # fmt: skip
# Rules that say an op runs in float although there is Q/DQ at its inputs.
RUNS_IN_FLOAT = {
    "half-quantized", "wrong-axis", "scale-shape", "deconv", "activation-per-channel",
    "int4-unblocked", "block-type", "weight-only", "fp8-window", "fp4-product",
}  # fmt: skip
# What lint calls refused for TensorRT-RTX too, and TensorRT-RTX 1.7 builds, each for a reason:
# an engine of nothing but 0 x inf, and numbers that are not what the graph says.
FALSE_ALARMS = {
    "infinite scale", "fp8 zero point", "scales of other blocks", "int4 blocks times int8",
    "axes without a name",  # refused where their sizes differ, which the graph does not say
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What lint foresaw of a model, and what became of it."""

    graph: Graph
    found: tuple[Finding, ...]
    seen: tuple[Finding, ...]
    built: bool
    errors: tuple[tuple[str, str], ...] = ()
    runs: Mapping[str, str] | None = None


def built(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """What TensorRT-RTX makes of each file; a crash is a refusal."""
    todo, answers = [str(p) for p in paths], {}
    while todo:
        command = [sys.executable, str(HERE / "build_batch.py")]
        child = subprocess.run(
            command, input="\n".join(todo), capture_output=True, text=True, cwd=ROOT, check=False,
            env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
        )  # fmt: skip
        lines = [line for line in child.stdout.splitlines() if line.startswith('{"path"')]
        answers |= {a["path"]: a for a in map(json.loads, lines)}
        todo = [p for p in todo if p not in answers]
        if todo:
            assert child.returncode < 0, child.stderr  # nothing but a crash ends it early
            crash = f"TensorRT crashed (signal {-child.returncode})"
            answers[todo[0]] = {"built": False, "errors": [(crash, "")]}
            todo = todo[1:]
    return answers


def ort_options() -> dict[str, dict[str, Any]]:
    """Options of ONNX Runtime's quantize_static, by what they are for."""
    from onnxruntime.quantization import QuantFormat, QuantType

    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True}
    signed = {"activation_type": QuantType.QInt8, "per_channel": True}
    float_bias = {**symmetric, "QuantizeBias": False}
    products = ["Conv", "MatMul", "Gemm"]
    return {
        "default": {},
        "integer ops": {"quant_format": QuantFormat.QOperator},
        "symmetric": {**signed, "extra_options": symmetric},
        "symmetric, float bias": {**signed, "extra_options": float_bias},
        "products": {**signed, "extra_options": float_bias, "op_types_to_quantize": products},
        "pairs": {**signed, "extra_options": {**float_bias, "DedicatedQDQPair": True,
                                              "AddQDQPairToWeight": True}},
        "int16": {"activation_type": QuantType.QInt16, "extra_options": float_bias},
    }  # fmt: skip


def feeds(source: onnx.ModelProto, data: Path | None) -> dict[str, np.ndarray]:
    """One sample: the first of `data`, or noise."""
    name = source.graph.input[0].name
    if data is None:
        dims = source.graph.input[0].type.tensor_type.shape.dim
        shape = [d.dim_value or (1 if i == 0 else 64) for i, d in enumerate(dims)]
        return {name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    loaded = np.load(data)
    if isinstance(loaded, np.ndarray):
        batch = source.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
        return {name: loaded[:batch]}
    return {k: loaded[k][:1] for k in loaded.files}


def quantize_with_ort(source: Path, data: Path | None, folder: Path) -> dict[str, Path]:
    """`source` quantized by ONNX Runtime with each of `ort_options`, and dynamically."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Sample(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [sample]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    logging.getLogger().setLevel(logging.ERROR)
    prepared = folder / f"{source.stem}.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    sample = feeds(onnx.load(source), data)
    made = {}
    for name, options in ort_options().items():
        made[name] = folder / f"{source.stem}.{name}.onnx"
        quantize_static(str(prepared), str(made[name]), Sample(), **options)
    made["dynamic"] = folder / f"{source.stem}.dynamic.onnx"
    quantize_dynamic(str(prepared), str(made["dynamic"]))
    return made


def make_models(folder: Path) -> dict[str, Path]:
    """Every model, by who made it and how."""
    made = {}
    for i, (name, case) in enumerate(CASES.items()):
        made[f"case: {name}"] = folder / f"{i}.onnx"
        onnx.save(model(case), made[f"case: {name}"])
    for name, (path, data) in FIXTURES.items():
        source = ROOT / "fixtures" / path
        for options, quantized in quantize_with_ort(source, source.with_name(data), folder).items():
            made[f"onnxruntime: {name}, {options}"] = quantized
        for options, words in OURS.items() if name not in FLOAT_FOR_US else ():
            out = folder / f"{name}.ours.{options}.onnx"
            calib = str(source.with_name(data))
            assert run(["-q", "quantize", str(source), "--calib", calib, "--samples", "4", *words,
                        "-o", str(out)]) == 0  # fmt: skip
            made[f"onnxq: {name}, {options}"] = out
    for name in REAL:
        if (SHARED / f"{name}.onnx").is_file():
            for options, quantized in quantize_with_ort(
                SHARED / f"{name}.onnx", None, folder
            ).items():
                made[f"onnxruntime: {name}, {options}"] = quantized
    return made


def make_answers(folder: Path) -> None:
    """Every model, and what TensorRT-RTX makes of it, in the folder's answers.json."""
    models = make_models(folder)
    answers = built(models.values())
    found = [{name: str(path) for name, path in models.items()}, answers]
    (folder / "answers.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def verdicts(made_once: Callable[..., Path], tensorrt_rtx: None) -> dict[str, Verdict]:
    """What lint foresaw of every model and what TensorRT-RTX made of it."""
    models, answers = json.loads((made_once("verdicts", make_answers) / "answers.json").read_text())
    graphs = {name: load(path) for name, path in models.items()}
    return {
        name: Verdict(
            graphs[name],
            lint(graphs[name]),
            lint(graphs[name], "tensorrt-rtx"),
            answers[path]["built"],
            tuple((e[0], e[1]) for e in answers[path].get("errors", ())),
            answers[path].get("runs"),
        )
        for name, path in models.items()
    }


def confusion(verdicts: Mapping[str, Verdict], backend: str, maker: str) -> str:
    """`built and fine, built and called refused, refused and found, refused and called fine`."""
    counts = Counter(
        (v.built, is_refused(v.found if backend == "tensorrt" else v.seen))
        for name, v in verdicts.items()
        if name.startswith(maker)
    )
    order = ((True, False), (True, True), (False, True), (False, False))
    return " | ".join(str(counts[key]) for key in order)


@pytest.mark.slow
def test_nothing_that_lint_calls_fine_is_refused(verdicts):
    fine = {n for n, v in verdicts.items() if not v.built and not is_refused(v.found)}
    assert fine == set()
    fine = {n for n, v in verdicts.items() if not v.built and not is_refused(v.seen)}
    assert fine == set()


@pytest.mark.slow
def test_false_alarms_are_those_known(verdicts):
    wrong = {n for n, v in verdicts.items() if v.built and is_refused(v.seen)}
    assert wrong == {f"case: {name}" for name in FALSE_ALARMS}


@pytest.mark.slow
def test_what_lint_says_runs_in_float_does_and_nothing_else(verdicts):
    for name, v in verdicts.items():
        if not v.built or not name.startswith("case: "):
            continue
        kinds = {n.op for n in v.graph.nodes}
        said = {f.node for f in v.seen if f.rule in RUNS_IN_FLOAT}
        quantized = "DequantizeLinear" in kinds and bool(v.runs)
        in_float = {node for node, runs in (v.runs or {}).items() if runs in ("fp32", "fp16")}
        assert not quantized or bool(in_float) == bool(said), (name, v.runs, said)


@pytest.mark.slow
def test_every_refusal_is_explained(verdicts):
    for name, v in verdicts.items():
        if not v.built:
            assert any(explain(text, v.graph, node) for text, node in v.errors), (name, v.errors)


@pytest.mark.slow
def test_our_own_models_are_fine(verdicts):
    for name, v in verdicts.items():
        if name.startswith("onnxq"):
            assert v.built, name
            assert {f.severity for f in v.found} <= {"info"}, (name, [str(f) for f in v.found])


@pytest.mark.slow
def test_the_document_holds_the_counts(verdicts):
    text = (ROOT / "docs" / "lint.md").read_text("utf-8")
    if not all((SHARED / f"{name}.onnx").is_file() for name in REAL):
        pytest.skip("the real models are not beside the checkout")
    rows = []
    for maker in ("case", "onnxruntime", "onnxq"):
        count = sum(name.startswith(maker) for name in verdicts)
        for backend in BACKENDS:
            rows.append(
                f"| {maker} ({count}) | {backend} | {confusion(verdicts, backend, maker)} |"
            )
    assert [row for row in rows if row not in text] == [], "\n".join(rows)
