"""Custom ops in Python: nodes are handed to them as they can take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxq.errors import ModelError
from onnxq.run import runtime
from onnxq.run.python_ops import python_ops

OPS = '''
import json
import numpy as np
from onnxruntime_extensions import PyOp, onnx_op

@onnx_op(op_type="TestScaled", inputs=[PyOp.dt_float, PyOp.dt_float],
         outputs=[PyOp.dt_float, PyOp.dt_int64],
         attrs={"by": PyOp.dt_string, "plus": PyOp.dt_float, "times": PyOp.dt_int64})
def scaled(x, shift, by, plus, times):
    """x * by + plus + shift, and how many shifts there were."""
    if times:
        raise ValueError("times is not for us")
    assert x.dtype == np.float32
    out = x * np.array(json.loads(by), np.float32) + plus
    return out + (shift if shift.size else 0), np.array([shift.size])

@onnx_op(op_type="TestShort", inputs=[PyOp.dt_float], outputs=[PyOp.dt_float, PyOp.dt_float])
def short(x):
    return x
'''
X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.fixture(scope="module")
def ops(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("ops") / "scaled.py"
    path.write_text(OPS)
    return str(path)


def session(body: str, ops: str, dtype: str = "float"):
    text = f'<ir_version: 8, opset_import: ["": 17, "my": 1]> g ({dtype}[N,3] x, {dtype}[3] s) => '
    model = onnx.parser.parse_model(f"{text}({dtype}[N,3] y) {{{body}}}")
    return runtime.session(model, runtime.Runtime(ort_extension=ops), threads=1)


def run(one, dtype=np.float32):
    feeds = {"x": X.astype(dtype), "s": np.array([0.5, 1, 2], dtype)}
    return runtime.run(one, ["y"], {i.name: feeds[i.name] for i in one.get_inputs()})[0]


@pytest.mark.parametrize("domain", ["", "my."])
def test_lists_come_as_json_and_what_is_left_out_as_nothing(ops, domain):
    body = f"a = {domain}TestScaled<by = [1, 10, 100], other = [1]>(x) y = Relu(a)"
    np.testing.assert_array_equal(run(session(body, ops)), X * [1, 10, 100])


def test_all_inputs_outputs_and_numbers_arrive(ops):
    body = "a, n = TestScaled<by = [2], plus = 3.0>(x, s) f = Cast<to = 1>(n) y = Add(a, f)"
    np.testing.assert_array_equal(run(session(body, ops)), X * 2 + 3 + [0.5, 1, 2] + 3)


def test_half_values_are_cast_on_the_way_in_and_out(ops):
    found = run(session("y = TestScaled<by = [2]>(x, s)", ops, "float16"), np.float16)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, (X * 2 + [0.5, 1, 2]).astype(np.float16))


def test_a_model_without_such_nodes_runs_as_ever(ops):
    np.testing.assert_array_equal(run(session("y = Relu(x)", ops)), X)


def test_an_op_that_fails_is_a_model_error_and_the_process_goes_on(ops):
    one = session("y = TestScaled<by = [1], times = 2>(x)", ops)
    for _ in range(2):
        with pytest.raises(
            ModelError, match="'TestScaled' failed: ValueError: times is not for us"
        ):
            run(one)
    np.testing.assert_array_equal(run(session("y = TestScaled<by = [1]>(x)", ops)), X)


def test_an_op_that_returns_too_little_is_a_model_error(ops):
    with pytest.raises(
        ModelError, match="'TestShort' failed: TypeError: it returned 1 values, not 2"
    ):
        run(session("y = TestShort(x)", ops))


def test_a_node_with_more_inputs_than_the_op_is_refused(ops):
    with pytest.raises(
        ModelError, match=r"node 'n' has 3 inputs and 1 outputs.*'TestScaled' 2 and 2"
    ):
        session("[n] y = TestScaled<by = [1]>(x, s, s)", ops)


def test_a_list_where_a_number_is_declared_is_refused_with_the_way_out(ops):
    with pytest.raises(ModelError, match=r"'plus' of node 'n' is list.*as PyOp\.dt_string"):
        session("[n] y = TestScaled<by = [1], plus = [1, 2]>(x)", ops)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("no_such_module", r"'no_such_module' cannot be imported \(No module named"),
        ("missing.py", r"'missing.py' cannot be imported"),
        ("json", r"'json' declares no op; decorate a function with"),
    ],
)
def test_a_module_without_ops_is_named(module, message):
    with pytest.raises(ModelError, match=message):
        python_ops(module)


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch):
    Path(tmp_path / "local_ops.py").write_text(OPS.replace("Test", "Local"))
    monkeypatch.chdir(tmp_path)
    assert set(python_ops("local_ops")) == {"LocalScaled", "LocalShort"}
    assert python_ops("local_ops")["LocalScaled"].attributes.keys() == {"by", "plus", "times"}
