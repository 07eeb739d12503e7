"""What the user says about placement names the nodes it should."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.errors import PlanError
from onnxq.targets.options import PlanOptions, left_float, reachable, weight_input

RESIDUAL = """(float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z) {
    [stem] a = Conv(x, w) [relu] b = Relu(a)
    [one] c = Conv(b, w) [two] d = Conv(c, w) [add] e = Add(b, d)
    [left] y = Conv(e, w) [right1] f = Conv(e, w) [right2] z = Conv(f, w)
}"""


@pytest.fixture
def graph(graph_of):
    return graph_of(RESIDUAL, {"w": np.ones((4, 4, 1, 1), np.float32)})


def test_nothing_is_left_float_by_default(graph):
    assert left_float(graph, PlanOptions()) == {}


def test_patterns_and_op_types_leave_nodes_float_with_the_words_that_did(graph):
    options = PlanOptions(skip=("right*", "op:Add"), skip_op=("Relu", "Add"))
    assert left_float(graph, options) == {
        "right1": "--skip right*",
        "right2": "--skip right*",
        "add": "--skip op:Add",
        "relu": "--skip-op Relu",
    }


@pytest.mark.parametrize(
    ("pair", "names"),
    [
        ("one:two", ["one", "two"]),
        ("relu:add", ["relu", "one", "two", "add"]),  # both branches
        ("stem:stem", ["stem"]),
        ("op:Relu:add", ["relu", "one", "two", "add"]),
        ("one:op:Add", ["one", "two", "add"]),
        ("tensor:c:tensor:e", ["one", "two", "add"]),
        ("op:Add:op:Conv", ["add", "left", "right1", "right2"]),  # every Conv behind it
        ("add:right", ["add", "right1", "right2"]),
    ],
)
def test_everything_on_a_path_between_two_patterns_is_left_float(graph, pair, names):
    assert left_float(graph, PlanOptions(skip_between=(pair,))) == dict.fromkeys(
        names, f"--skip-between {pair}"
    )


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("left:stem", "no path leads from 'left' to 'stem'"),
        ("left:right1", "no path leads"),
        ("stem", "needs two patterns as FROM:TO"),
        ("stem:", "needs two patterns"),
        (":stem", "needs two patterns"),
        ("op:Conv", "needs two patterns"),
        ("nowhere:stem", "'nowhere' matches no node"),
    ],
)
def test_a_pair_that_names_no_path_is_an_error(graph, pair, message):
    with pytest.raises(PlanError, match=message):
        left_float(graph, PlanOptions(skip_between=(pair,)))


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (0, []),
        (1, ["stem"]),
        (2, ["stem", "one"]),
        (3, ["stem", "one", "two"]),
        (4, ["stem", "one", "two", "left", "right1"]),
        (99, ["stem", "one", "two", "left", "right1", "right2"]),
    ],
)
def test_the_first_layers_are_those_nearest_the_input(graph, count, names):
    reasons = left_float(graph, PlanOptions(keep_first=count))
    assert reasons == dict.fromkeys(names, f"--keep-first {count}")


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (1, {"left", "right2"}),  # the last of each output
        (2, {"left", "right2", "right1"}),
        (3, {"left", "right2", "right1", "two"}),
    ],
)
def test_the_last_layers_are_those_nearest_an_output(graph, count, names):
    reasons = left_float(graph, PlanOptions(keep_last=count))
    assert reasons == dict.fromkeys(names, f"--keep-last {count}")


def test_only_leaves_everything_else_float(graph):
    reasons = left_float(graph, PlanOptions(only=("right",), skip=("right2",)))
    assert reasons.pop("right2") == "--skip right2"
    assert set(reasons) == {"stem", "relu", "one", "two", "add", "left"}
    assert set(reasons.values()) == {"not named by --only"}


@pytest.mark.parametrize(
    "options",
    [
        PlanOptions(skip=("nowhere",)),
        PlanOptions(only=("nowhere",)),
        PlanOptions(skip_op=("Gemm",)),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(graph, options):
    with pytest.raises(PlanError, match="matches no node"):
        left_float(graph, options)


@pytest.mark.parametrize(
    "options",
    [PlanOptions(keep_first=-1), PlanOptions(keep_last=-2)],
)
def test_a_negative_count_is_an_error(graph, options):
    with pytest.raises(PlanError, match="at least 0"):
        left_float(graph, options)


def test_what_lies_behind_a_node_includes_it(graph):
    add = [n for n in graph.nodes if n.name == "add"]
    assert reachable(add, forward=True) == {"add", "left", "right1", "right2"}
    assert reachable(add, forward=False) == {"add", "two", "one", "relu", "stem"}


def test_the_constant_one_of_the_first_two_inputs_is_the_weight(graph_of):
    graph = graph_of(
        """(float[4,4] x) => (float[4,4] y) {
            [right] a = MatMul(x, w) [left] b = MatMul(w, a) [none] c = MatMul(a, b)
            [bias] y = Gemm(a, c, w)
        }""",
        {"w": np.ones((4, 4), np.float32)},
    )
    found = {n.name: weight_input(n) for n in graph.nodes}
    assert found == {"right": 1, "left": 0, "none": None, "bias": None}
