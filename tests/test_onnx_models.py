"""The ONNX project's own test models go through `prepare` and `quantize` unharmed, or are refused
with a line; docs/hardening.md has the counts.

`ONNXQ_HARDENING=all` puts a quantized MatMul behind every model, where otherwise one in eight has.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from onnxq import api
from onnxq.errors import OnnxqError
from onnxq.model.graph import to_proto
from onnxq.pipeline.config import Config
from onnxq.targets.options import PlanOptions

sys.path.insert(0, str(Path(__file__).parent))  # for the models beside this file
from onnx_models import every_case, product_behind, same

DOCS = Path(__file__).resolve().parents[1] / "docs" / "hardening.md"
ALL = os.environ.get("ONNXQ_HARDENING") == "all"
# what is as small as in these models is quantized too
CONFIG = Config(placement=PlanOptions(min_channels=1, deconv="per-channel"), workers=1)
DRAWS = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
         "RandomUniformLike", "Dropout"}  # fmt: skip


@pytest.fixture(scope="module")
def cases():
    return every_case()


@pytest.fixture(scope="module")
def documented():
    """Whether counts are those of the table in the docs; with versions it is not of, any are.

    `documented("prepare", {"refused": 87, ...})`: the rows are `prepare: refused`.
    """
    text = DOCS.read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| ([\d,]+) \|$", text, re.MULTILINE)
    table = {what: int(count.replace(",", "")) for what, count in rows}

    def holds(verb, found):
        expected = {what: n for what, n in table.items() if what.startswith(f"{verb}: ")}
        assert expected
        if f"onnx {onnx.__version__}, ONNX Runtime {ort.__version__}" in text:
            assert {f"{verb}: {what}": n for what, n in found.items()} == expected
        return True

    return holds


def ort_run(model, feeds):
    """The outputs by ONNX Runtime; None where it cannot run the model."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, dict(feeds))
    except Exception:  # ONNX Runtime's exceptions share no base class
        return None


def reference_run(model, feeds):
    """The outputs by onnx's reference implementation; None where it cannot run the model."""
    try:
        with np.errstate(all="ignore"):
            return ReferenceEvaluator(model).run(None, dict(feeds))
    except Exception:
        return None


def is_valid(model):
    """Whether onnx.checker, shapes and types included, lets a model pass."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:
        return False
    return True


def tolerance(model):
    """(rtol, atol). Constants folded with NumPy round otherwise than ONNX Runtime's kernels by a
    few steps of the type: 2^-23 in float32, 2^-10 in float16."""
    half = any(v.type.tensor_type.elem_type == 10 for v in model.graph.input)
    return (2e-3, 2e-3) if half else (1e-5, 1e-6)


def refusal(error):
    message = str(error)
    assert "\n" not in message.strip(), message
    assert len(message) > 20, message


def prepared(case, path):
    """What became of a model in `prepare`, after the checks; and its Source."""
    path.write_bytes(case.model.SerializeToString())
    try:
        source = api.prepare(path, CONFIG)
    except OnnxqError as e:
        refusal(e)
        return "refused", None
    return unharmed(case, to_proto(source.graph)), source


def unharmed(case, after):
    """By what it was seen that a prepared model computes what the model did."""
    assert is_valid(after) or not is_valid(case.model), case.name
    if DRAWS & {node.op_type for node in case.model.graph.node}:
        return "random"
    for run in (ort_run, reference_run):
        before = run(case.model, case.by_name)
        if before is not None:
            found = [other(after, case.by_name) for other in (run, ort_run)]
            assert any(x is not None for x in found), f"{case.name} does not run any more"
            close = (x is not None and same(before, x, *tolerance(case.model)) for x in found)
            assert any(close), f"{case.name} computes otherwise"
            return "same by ONNX Runtime" if run is ort_run else "same by the reference"
    return "run by neither"


def planned(source):
    """Whether there is anything to quantize; if not, `quantize` refuses a model for that."""
    try:
        api.plan(source, CONFIG)
    except OnnxqError as e:
        refusal(e)
        return False
    return True


def quantized(case, folder):
    """What became of a model in `quantize`, calibrated on its own input, after the checks."""
    path, data = folder / "model.onnx", folder / "data"
    path.write_bytes(case.model.SerializeToString())
    data.mkdir(exist_ok=True)
    calib = "random"
    if case.by_name and all(getattr(x, "dtype", np.dtype(object)).kind in "fiub"
                            for x in case.by_name.values()):  # fmt: skip
        np.savez(data / "0.npz", **{name.replace("/", "_"): x for name, x in case.by_name.items()})
        calib = str(data)
    try:
        result = api.quantize(path, [calib], CONFIG)
    except OnnxqError as e:
        refusal(e)
        return "refused"
    model = to_proto(result.graph)
    assert is_valid(model) or not is_valid(case.model), case.name
    assert any(node.op_type == "DequantizeLinear" for node in model.graph.node), case.name
    assert ort_run(model, case.by_name) is not None, f"{case.name} does not run quantized"
    return "quantized"


@pytest.mark.slow
def test_every_model_is_prepared_and_quantized_unharmed_or_refused(cases, documented, tmp_path):
    prepare, quantize = Counter(), Counter()
    for case in cases:
        what, source = prepared(case, tmp_path / "model.onnx")
        prepare[what] += 1
        if source is not None:
            quantize[quantized(case, tmp_path) if planned(source) else "nothing to quantize"] += 1
    assert prepare["same by ONNX Runtime"] > 0.6 * len(cases)
    assert quantize["quantized"] > 0.05 * len(cases)
    assert documented("prepare", prepare)
    assert documented("quantize", quantize)


@pytest.mark.slow
def test_every_op_in_front_of_a_product_is_calibrated_and_quantized(cases, documented, tmp_path):
    behind = [case for case in map(product_behind, cases) if case is not None]
    found = Counter(quantized(case, tmp_path) for case in (behind if ALL else behind[::8]))
    assert found["quantized"] > 0.7 * found.total()
    assert not ALL or documented("behind", found)
