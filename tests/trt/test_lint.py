"""Lint finds each planted fault and nothing else; docs/lint.md shows its rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array

from onnxq.errors import OnnxqError
from onnxq.model.graph import from_proto
from onnxq.trt.lint import RULES, at_least, explain, is_refused, lint, rules_table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # for the table of cases beside this file
from lint_cases import CASES, FAULTS, GOOD, POOL, Case, model  # noqa: E402

PLANTED = {rule for case in FAULTS.values() for rule in case.rules}


def graph_of(name):
    return from_proto(model(CASES[name]))


def rules_of(found):
    return {f.rule for f in found}


@pytest.mark.parametrize("name", CASES)
def test_every_fault_is_found_and_nothing_else(name):
    assert rules_of(at_least(lint(graph_of(name)), "slow")) == set(CASES[name].rules)


def test_every_rule_above_info_has_a_planted_fault():
    assert {rule.name for rule in RULES if rule.severity != "info"} == PLANTED


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("conv", "fp32-rest"),
        ("tiny scale", "fp16-underflow"),
        ("dynamic", "dynamic-shape"),
        ("fp8", "hardware"),
        ("int4 conv", "hardware"),
        ("int4 conv", "weight-only"),
        ("weight only", "weight-only"),
    ],
)
def test_what_is_only_worth_knowing_is_info(name, rule):
    found = {f.rule for f in lint(graph_of(name)) if f.severity == "info"}
    assert rule in found


def test_a_pad_before_the_quantizer_of_a_conv_is_info():
    pad = "p = Pad (x, pads) xq = QuantizeLinear (p, s, z) xd = DequantizeLinear (xq, s, z) "
    body = pad + "wd = DequantizeLinear <axis=0> (w, ws, wz) y = Conv (xd, wd)"
    assert "split-pad" in rules_of(lint(from_proto(model(Case(body)))))


def test_a_float_graph_has_nothing_to_say():
    assert lint(graph_of("float")) == ()


def test_a_finding_says_where_what_why_and_how():
    found = lint(graph_of("zero point"))[0]
    assert (found.node, found.op) == ("xq", "QuantizeLinear")
    assert "3" in found.message
    assert all((found.why, found.source, found.fix))
    assert "zero-point" in str(found)


def test_findings_come_worst_first():
    severities = [f.severity for f in lint(graph_of("activation only"))]
    assert severities == ["slow", "info"]


def test_a_backend_is_judged_by_what_it_was_seen_to_do():
    graph = graph_of("com.microsoft")
    assert is_refused(lint(graph))
    assert not is_refused(lint(graph, "tensorrt-rtx"))


def test_an_unknown_backend_and_severity_list_the_choices():
    with pytest.raises(OnnxqError, match="tensorrt-rtx"):
        lint(graph_of("conv"), "onnxruntime")
    with pytest.raises(OnnxqError, match="inaccurate"):
        at_least((), "bad")


def test_the_graph_is_left_alone():
    graph = graph_of("no axis")
    before = [(n.op, dict(n.attrs), [t.name for t in n.inputs]) for n in graph.nodes]
    lint(graph)
    assert before == [(n.op, dict(n.attrs), [t.name for t in n.inputs]) for n in graph.nodes]


def test_nodes_without_a_name_are_called_after_what_they_write():
    made = model(CASES["zero point"])
    for node in made.graph.node:
        node.name = ""
    assert lint(from_proto(made))[0].node == "xq"


def test_scales_that_only_constants_make_are_known():
    weights = {"c6": np.float32(0)}
    folded = Case(GOOD["folded scale"].body, weights=weights)
    assert "zero-scale" in rules_of(lint(from_proto(model(folded))))


def test_an_unquantized_skip_that_nothing_else_quantizes_is_left_alone():
    body = GOOD["conv"].body.replace("y =", "c =") + " y = Add (c, v)"
    case = Case(body, inputs="float[1,16,8,8] x, float[1,16,8,8] v")
    assert at_least(lint(from_proto(model(case))), "slow") == ()


@pytest.mark.parametrize(
    ("name", "message", "rule"),
    [
        ("negative scale", "Scale coefficients must all be positive", "negative-scale"),
        ("zero point", "Non-zero zero point is not supported. Please set", "zero-point"),
        ("int32 bias", "bd: input has type Int32 but must have type FP8", "int32-bias"),
        ("computed scale", "TensorRT crashed (signal 11, SIGSEGV)", "computed-scale"),
        ("custom op", 'creator && "Plugin not found, are the plugin name', "custom-op"),
        ("Compress", "false", "unsupported-op"),
    ],
)
def test_an_error_of_tensorrt_is_explained_by_a_rule(name, message, rule):
    found = explain(message, graph_of(name))
    assert found is not None
    assert found.rule == rule


def test_the_node_that_an_error_names_is_explained_first():
    message = "Non-zero zero point is not supported"
    assert explain(message, graph_of("zero point"), "xd").node == "xd"
    assert explain(f"Invalid Node - xd\n{message}", graph_of("zero point")).node == "xd"


def test_an_error_that_says_only_where_is_explained_by_what_is_wrong_there():
    found = explain("Invalid Node - zs", graph_of("int16 in a Constant node"), "zs")
    assert found.rule == "type"


def test_an_error_that_no_rule_knows_is_not_explained():
    assert explain("Out of memory", graph_of("zero point")) is None


def test_an_error_that_the_graph_does_not_deserve_is_not_explained():
    assert explain("Scale coefficients must all be positive", graph_of("conv")) is None


def test_the_document_holds_the_table_of_the_rules():
    assert rules_table() in (ROOT / "docs" / "lint.md").read_text("utf-8")


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_found_in_any_weight(bad, dtype):
    kind = {"float32": "float", "float16": "float16", "float64": "double"}[dtype]
    text = f"""<ir_version: 8, opset_import: ["": 17]> g ({kind}[4, 16] x) => ({kind}[4, 8] y)
        {{ h = MatMul(x, w) y = Add(h, c) }}"""
    made = onnx.parser.parse_model(text)
    weight = np.ones((16, 8), dtype)
    none = np.full(8, bad, dtype)  # what is added may be -inf, as in a mask
    made.graph.initializer.extend([from_array(weight, "w"), from_array(none, "c")])
    assert "non-finite-weight" not in {f.rule for f in lint(from_proto(made))}
    weight[3, 5] = bad
    made.graph.initializer[0].CopyFrom(from_array(weight, "w"))
    (found,) = [f for f in lint(from_proto(made)) if f.rule == "non-finite-weight"]
    said = "NaN" if np.isnan(bad) else str(bad)
    assert (found.node, found.message) == ("h", f"the constant 'w' holds {said}")


def test_rule_names_are_unique_and_every_fix_is_of_a_rule():
    from onnxq.trt.fixes import FIXES

    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert set(FIXES) <= set(names)


def test_lint_needs_no_tensorrt():
    code = (
        "import sys; import onnxq.trt.lint, onnxq.trt.fixes, onnxq.report.findings; "
        "assert not {'tensorrt', 'tensorrt_rtx', 'polygraphy', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_constant_of_the_pool_is_used():
    text = " ".join(case.body for case in CASES.values())
    assert [name for name in POOL if name not in text] == []
