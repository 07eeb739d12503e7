"""The safe fixes take the fault away and leave the numbers as they were."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxq.model.graph import constant_of, from_proto, to_proto
from onnxq.trt.fixes import FIXES, fix
from onnxq.trt.lint import is_refused, lint

sys.path.insert(0, str(Path(__file__).parent))  # for the table of cases beside this file
from lint_cases import (
    CASES,
    CONV,
    FAULTS,
    PAD,
    Case,
    W,
    X,
    full,
    model,
)

X_DATA = np.random.default_rng(1).normal(size=(1, 16, 8, 8)).astype(np.float32)
ROUNDED = np.clip(np.rint(X_DATA / 0.05), -128, 127)


def run(made):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(made.SerializeToString(), options)
    return session.run(None, {"x": X_DATA})[0]


def mended(case):
    """The model of a case before and after, and what was fixed."""
    made = model(case)
    graph, counts = fix(from_proto(made))
    return made, to_proto(graph), counts


def rules_of(made):
    return {f.rule for f in lint(from_proto(made))}


UINT8_AROUND_128 = {"z": np.uint8(128)}
MENDED = {
    "missing-axis": Case(CONV.replace(" <axis=0>", "").replace("Conv", "Conv"), (),
                         {"ws": np.linspace(0.01, 0.02, 16, dtype=np.float32)}),
    "int32-bias": FAULTS["int32 bias"],
    "zero-point": Case(CONV, (), {**UINT8_AROUND_128, "s": np.float32(0.02)}),
    "scalar-constant": FAULTS["quantized scalar"],
    "duplicate-quantizer": FAULTS["one scale twice"],
    "stray-identity": FAULTS["Identity"],
    "axis-name": FAULTS["axes without a name"],
    "scale-shape": FAULTS["scale of shape [1]"],
}  # fmt: skip


@pytest.mark.parametrize("rule", MENDED)
def test_a_fix_takes_the_fault_away_and_keeps_the_numbers(rule):
    before, after, counts = mended(MENDED[rule])
    assert rule in rules_of(before)
    assert counts[rule] > 0
    assert rule not in rules_of(after)
    onnx.checker.check_model(after)
    assert np.array_equal(run(before), run(after))  # the same operations on the same numbers


def test_a_uint8_weight_around_128_becomes_int8():
    case = FAULTS["uint8 weight at 128"]
    before, after, counts = mended(case)
    assert counts == {"zero-point": 1}
    assert rules_of(before) - rules_of(after) == {"zero-point", "uint8-data"}
    assert np.array_equal(run(before), run(after))  # codes and zero point shift alike


def test_uint8_around_another_zero_point_stays():
    _, _, counts = mended(Case(CONV, (), {"z": np.uint8(120)}))
    assert counts == {}


def test_uint8_that_a_reader_takes_otherwise_stays():
    body = X + "t = Cast <to=6> (xq) y = Cast <to=1> (t)"
    _, _, counts = mended(Case(body, (), UINT8_AROUND_128))
    assert counts == {}


def test_a_missing_axis_that_onnx_cannot_mean_becomes_the_only_one_that_fits():
    _, after, counts = mended(FAULTS["no axis, no fit"])
    node = next(n for n in after.graph.node if n.output[0] == "wd")
    assert counts["missing-axis"] == 1
    assert [a.i for a in node.attribute] == [0]


def test_a_missing_axis_with_no_fit_stays():
    _, _, counts = mended(Case(CONV.replace(" <axis=0>", ""), (), {"ws": full(5)}))
    assert "missing-axis" not in counts


def test_a_dead_channel_gets_codes_of_zero_and_a_usable_scale():
    before, after, counts = mended(FAULTS["one zero scale"])
    graph = from_proto(after)
    wd = next(n for n in graph.nodes if n.outputs[0].name == "wd")
    weight, scale = (constant_of(t) for t in wd.inputs[:2])
    assert counts == {"zero-scale": 1}
    assert (weight[3] == 0).all()
    assert scale[3] == np.float32(0.01)
    assert np.array_equal(run(before), run(after))  # 0 x code = scale x 0


def test_other_readers_of_a_mended_scale_keep_theirs():
    body = W + f"v = DequantizeLinear <axis=0> (w, ws, wz) y = Conv {PAD} (x, wd)"
    graph = from_proto(model(Case(body, (), {"ws": np.zeros(16, np.float32)})))
    fix(graph)
    assert (constant_of(graph.nodes[0].inputs[1]) == 0).all()


def test_a_pair_with_scale_zero_goes():
    _, after, counts = mended(FAULTS["zero scale"])
    assert counts == {"zero-scale": 1}
    assert [n.op_type for n in after.graph.node] == ["DequantizeLinear", "Conv"]
    assert not is_refused(lint(from_proto(after)))


def test_a_quantized_constant_of_a_concat_becomes_float():
    before, after, counts = mended(FAULTS["quantized constant in a Concat"])
    assert counts == {"scalar-constant": 1}
    assert np.array_equal(run(before), run(after))  # codes times scale, computed once


def test_a_biased_weight_keeps_its_zero_point_when_dequantized():
    zero = np.arange(16, dtype=np.int32)
    body = f"{X}{W}bd = DequantizeLinear <axis=0> (bq, bs, bz) y = Conv {PAD} (xd, wd, bd)"
    weights = {"bq": np.full(16, 7, np.int32), "bs": full(16), "bz": zero}
    _, after, _ = mended(Case(body, (), weights))
    bias = next(i for i in after.graph.initializer if i.name == "bd_float")
    assert np.array_equal(
        onnx.numpy_helper.to_array(bias), np.float32(0.01) * (7 - zero).astype(np.float32)
    )


def test_fixing_twice_changes_nothing_more():
    for case in MENDED.values():
        once, _ = fix(from_proto(model(case)))
        assert fix(once)[1] == {}


@pytest.mark.parametrize("name", CASES)
def test_no_fix_makes_a_finding_of_severity_refused(name):
    graph = from_proto(model(CASES[name]))
    before = {f.rule for f in lint(graph) if f.severity == "refused"}
    after = {f.rule for f in lint(fix(graph)[0]) if f.severity == "refused"}
    assert after <= before


@pytest.mark.parametrize("name", ["conv", "fp8", "int4 blocks of 64", "fp16", "matmul"])
def test_a_good_model_keeps_every_constant_and_its_type(name):
    made, after, counts = mended(CASES[name])
    assert counts == {}
    before = {i.name: (i.data_type, i.dims, onnx.numpy_helper.to_array(i).tobytes())
              for i in made.graph.initializer}  # fmt: skip
    for i in after.graph.initializer:
        assert before[i.name] == (i.data_type, i.dims, onnx.numpy_helper.to_array(i).tobytes())


def test_every_fix_is_tested():
    assert set(FIXES) - {"zero-scale"} == set(MENDED)
