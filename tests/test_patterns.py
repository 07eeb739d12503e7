"""Patterns name nodes the way people write them down."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from onnxq.errors import PlanError
from onnxq.model.graph import from_proto
from onnxq.model.patterns import expand, select

DEBLOCK = "/pts_neck/deblocks.0/deblocks.0.0/ConvTranspose"
OTHER = "/pts_neck/deblocks.1/deblocks.1.0/ConvTranspose"
HEAD = "/head/tasks[0]/Conv"


@pytest.fixture
def graph():
    """A chain of Relus and two deconvolutions, known by their names alone."""
    nodes, last = [], "x"
    named = {"/stem/Relu": "Relu", DEBLOCK: "ConvTranspose", OTHER: "ConvTranspose", HEAD: "Conv"}
    for i, (name, op) in enumerate(named.items()):
        inputs = [last] if op == "Relu" else [last, "w"]
        last = f"/out.{i}/{op}_output_0"
        nodes.append(helper.make_node(op, inputs, [last], name))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "w", last)]
    return from_proto(helper.make_model(helper.make_graph(nodes, "g", ends[:2], ends[2:])))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("pts_neck.deblocks.0.0", [DEBLOCK]),  # the module's path in PyTorch
        ("pts_neck.deblocks.1.0.ConvTranspose", [OTHER]),
        ("pts_neck/deblocks/0/deblocks/0/0", [DEBLOCK]),
        (f"name:{HEAD}", [HEAD]),
        (f"name:{HEAD[:-1]}", []),  # no part of a name
        (f"name:{HEAD.replace('/', '.')}", []),  # to the letter
        ("deblocks.0.0", [DEBLOCK]),
        ("deblocks", [DEBLOCK, OTHER]),
        ("/pts_neck/*/ConvTranspose", [DEBLOCK, OTHER]),
        ("*deblocks.?.1.0*", []),
        ("*.deblocks.1.0.*", [OTHER]),
        ("ConvTranspose*", []),  # a glob is of the whole name
        ("op:ConvTranspose", [DEBLOCK, OTHER]),
        ("op:Conv", [HEAD]),  # an op type is whole
        ("op:Conv*", [DEBLOCK, OTHER, HEAD]),
        ("tensor:out.2", [OTHER]),
        ("tensor:/out.?/Relu_output_0", ["/stem/Relu"]),
        ("tasks[0]", [HEAD]),  # a bracket is also just a bracket
        ("/head/tasks[[]0]/*", [HEAD]),
    ],
)
def test_a_pattern_is_a_glob_or_a_substring_and_dots_are_slashes(graph, pattern, names):
    if names:
        assert list(select(graph, [pattern])) == names
    else:
        with pytest.raises(PlanError, match="matches no node"):
            select(graph, [pattern])


def test_a_node_carries_the_first_pattern_that_named_it(graph):
    assert select(graph, ["deblocks.0", "deblocks"]) == {DEBLOCK: "deblocks.0", OTHER: "deblocks"}


def test_a_pattern_that_matches_nothing_lists_the_nearest_names(graph):
    with pytest.raises(PlanError, match=f"'neck.deblocks.7' matches no node.*'{DEBLOCK}'"):
        select(graph, ["deblocks", "neck.deblocks.7"])
    with pytest.raises(PlanError, match=r"nearest names are 'ConvTranspose'"):
        select(graph, ["op:ConvTransposed"])
    with pytest.raises(PlanError, match=r"nearest names are '/out.0/Relu_output_0'"):
        select(graph, ["tensor:/out.0/Relu_outputs"])


@pytest.mark.parametrize("pattern", ["", " ", "tensor:"])
def test_an_empty_pattern_does_not_name_everything(graph, pattern):
    with pytest.raises(PlanError, match="is empty"):
        select(graph, [pattern])


def test_a_file_holds_a_pattern_a_line(graph, tmp_path):
    listed = tmp_path / "skip.txt"
    listed.write_text("# the neck\ndeblocks.0.0  # first\n\n  op:Conv\n")
    assert expand(["a", f"@{listed}", "b"]) == ["a", "deblocks.0.0", "op:Conv", "b"]
    assert list(select(graph, [f"@{listed}"])) == [DEBLOCK, HEAD]


def test_a_missing_or_binary_pattern_file_is_named(tmp_path):
    with pytest.raises(PlanError, match=r"no pattern list at '.*none\.txt'"):
        expand([f"@{tmp_path / 'none.txt'}"])
    binary = tmp_path / "skip.bin"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"skip\.bin' is not UTF-8"):
        expand([f"@{binary}"])
