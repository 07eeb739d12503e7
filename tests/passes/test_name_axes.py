"""Axes that are not one size do not share a name."""

from __future__ import annotations

import pytest

from onnxq.passes.name_axes import name_axes, name_axes_by


def named(graph_of, *axes, more=""):
    graph = graph_of(f"(float[a,b,c,d] x{more}) => (float y) {{y = Relu(x)}}")
    graph.inputs[0].shape = list(axes)
    return graph


def test_axes_called_by_what_is_no_name_get_their_own(graph_of):
    graph = named(graph_of, "N", 3, "?", "?")
    assert name_axes(graph) == 2
    assert graph.inputs[0].shape == ["N", 3, "x_2", "x_3"]
    assert name_axes(graph) == 0


def test_a_new_name_avoids_those_of_other_axes(graph_of):
    graph = named(graph_of, "x_3", 3, "?", "?")
    name_axes(graph)
    assert graph.inputs[0].shape == ["x_3", 3, "x_2", "x_3_1"]


@pytest.mark.parametrize("axes", [("N", 3, "side", "side"), ("?", 3, 8, 8), (None, 3, "", "")])
def test_an_identifier_and_what_is_not_shared_are_left_alone(graph_of, axes):
    graph = named(graph_of, *axes)
    assert name_axes(graph) == 0
    assert graph.inputs[0].shape == list(axes)


def test_a_name_of_two_sizes_in_one_sample_is_taken_apart(graph_of):
    graph = named(graph_of, "N", 3, "side", "side", more=", float[N,K] z")
    square = {"x": (1, 3, 8, 8), "z": (1, 5)}
    assert name_axes_by(graph, [square, {**square, "x": (4, 3, 9, 9), "z": (4, 5)}]) == 0
    assert name_axes_by(graph, [square, {**square, "x": (1, 3, 8, 12)}]) == 2
    assert graph.inputs[0].shape == ["N", 3, "x_2", "x_3"]
    assert graph.inputs[1].shape == ["N", "K"]
