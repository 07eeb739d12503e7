"""Every op of the interpreter against ONNX Runtime, on the ONNX project's own tests of nodes."""

from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason='pip install "onnxq[finetune]"')

from onnxq.errors import ModelError  # noqa: E402
from onnxq.finetune.interpreter import (  # noqa: E402
    OPS,
    SEVERAL,
    Interpreter,
    lacking,
    refuse_lacking,
    to_torch,
)
from onnxq.model.graph import from_proto, to_proto  # noqa: E402
from onnxq.pipeline.source import prepare  # noqa: E402
from onnxq.run import over, segments  # noqa: E402

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"

TYPES = {"float32", "float64", "int64", "int32", "int8", "uint8", "bool", "float16"}
# of these ONNX Runtime has none on the CPU, or the ONNX project no test of its own
UNTESTED = {"Swish"}
HALF, SINGLE = 2e-2, 1e-4  # of values up to about ten


def cases_of_ops():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = defaultdict(list)
        for case in collect_testcases(None):
            nodes = case.model.graph.node
            if len(nodes) == 1 and nodes[0].op_type in OPS and not nodes[0].domain:
                found[nodes[0].op_type].append(case)
    return found


@pytest.fixture(scope="module")
def cases():
    return cases_of_ops()


def arrays_of(values):
    """Arrays of tensors, arrays and NumPy's scalars; what else there is as it is."""
    arrays = [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in values]
    return [np.asarray(v) if isinstance(v, np.generic) else v for v in arrays]


def typed(values):
    return [isinstance(v, np.ndarray) and v.dtype.name in TYPES for v in values]


def expected(case, feeds):
    """What ONNX Runtime gives; what the case says where that cannot run it."""
    try:
        return list(over.loaded(case.model)(feeds).values())
    except Exception:  # an opset or type that this version does not have
        return arrays_of(case.data_sets[0][1])


def first_case(case):
    """(feeds, graph) of a case that is of types that torch has, else None."""
    values, outputs = map(arrays_of, case.data_sets[0])
    if not all(typed([*values, *outputs])) or "empty_set" in case.name:
        return None
    names = [i.name for i in case.model.graph.input]
    return dict(zip(names, values, strict=False)), from_proto(case.model)


def apart(found, wanted):
    if wanted.dtype == bool or wanted.dtype.kind in "iu":
        return float(np.count_nonzero(found != wanted))
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    both = np.isfinite(found) & np.isfinite(wanted)
    if not np.array_equal(found[~both], wanted[~both], equal_nan=True):
        return np.inf
    return float(np.max(np.abs(found - wanted)[both], initial=0.0) / max(
        1.0, np.max(np.abs(wanted[both]), initial=0.0)))  # fmt: skip


@pytest.mark.parametrize("op", sorted(OPS.keys() - UNTESTED))
def test_an_op_computes_what_onnx_runtime_does(op, cases):
    checked, wrong = 0, []
    for case in cases[op]:
        ready = first_case(case)
        if ready is None:
            continue
        feeds, graph = ready
        keep = [t.name for t in graph.outputs]
        keep = keep if op in SEVERAL else keep[:1]  # the others nobody reads behind a layer
        if lacking(graph.nodes, keep):
            continue
        run = Interpreter.of(graph.nodes, keep)
        found = run.run({name: to_torch(x) for name, x in feeds.items()})
        checked += 1
        for y, wanted in zip(found.values(), expected(case, feeds), strict=False):
            y = y.numpy()
            limit = HALF if wanted.dtype == np.float16 else SINGLE
            if y.shape != wanted.shape or y.dtype != wanted.dtype or apart(y, wanted) > limit:
                wrong.append((case.name, y.shape, wanted.shape, y.dtype, wanted.dtype))
    assert checked
    assert not wrong


def test_what_the_table_lacks_is_named_before_anything_runs():
    graph = from_proto(
        onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4] x) => (float[1,4] y) {
          [first] a = Relu(x)  [odd] b = Hardmax(a)  [odder] y = Hardmax(b)
        }""")
    )
    with pytest.raises(ModelError, match=r"no function for 'odd' \(op Hardmax\), and 1 more"):
        refuse_lacking(graph)


def test_an_op_of_another_domain_is_lacking_though_its_name_is_known():
    node = onnx.helper.make_node("Relu", ["x"], ["y"], "mine", domain="users.own")
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [4]) for n in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("users.own", 1)]
    made = from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
    assert lacking(made.nodes) == {"mine": "op users.own.Relu"}


@pytest.mark.parametrize("name", ["classifier/classifier", "yolo_like/yolo_like",
                                  "transformer/transformer",
                                  "centerpoint/backbone_neck_head"])  # fmt: skip
def test_a_prepared_network_computes_what_onnx_runtime_does(name):
    graph = prepare(FIXTURES / f"{name}.onnx").graph
    part = segments.restrict(graph, [t.name for t in graph.outputs])
    refuse_lacking(part)
    rng = np.random.default_rng(0)
    feeds = {}
    for tensor in part.inputs:
        shape = [n if isinstance(n, int) else 2 for n in tensor.shape]
        noise = (
            rng.integers(0, 2, shape) if np.dtype(tensor.dtype).kind == "i" else rng.random(shape)
        )
        feeds[tensor.name] = noise.astype(tensor.dtype)
    run = Interpreter.of(part.nodes, [t.name for t in part.outputs])
    found = run.run({name: to_torch(x) for name, x in feeds.items()})
    for output, wanted in over.loaded(to_proto(graph))(feeds).items():
        assert apart(found[output].numpy(), wanted) < 1e-5  # sums in another order


def test_tensors_go_after_their_last_reader_and_gradients_flow():
    graph = from_proto(
        onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4] x) => (float[1,4] y) { a = Mul(x, x)  y = Relu(a) }""")
    )
    x = torch.tensor([[1.0, 2.0, -3.0, 0.0]], requires_grad=True)
    found = Interpreter.of(graph.nodes, ["y"]).run({"x": x})
    assert list(found) == ["y"]
    found["y"].sum().backward()
    assert x.grad.tolist() == [[2.0, 4.0, -6.0, 0.0]]
