"""Costs against figures worked out by hand."""

import numpy as np
import pytest

from onnxq.cost.counted import check, costs
from onnxq.cost.devices import DEVICES
from onnxq.errors import ModelError, PlanError
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

BODY = """(float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) {
    a = Conv<kernel_shape = [1, 1]>(x, w)
    b = Conv<kernel_shape = [1, 1]>(a, v)
    y = Add(b, x)
}"""
SHAPES = dict.fromkeys("xaby", (1, 16, 8, 8))
VALUES, MACS = 16 * 64, 16 * 16 * 64


@pytest.fixture
def graph(graph_of):
    weight = np.ones((16, 16, 1, 1), np.float32)
    graph = graph_of(BODY, {"w": weight, "v": weight})
    for node, name in zip(graph.nodes, ("first", "second", "sum"), strict=True):
        node.name = name
    return graph


def plan_of(*nodes, weight="int8", activation="int8"):
    edges = {}
    for node in nodes:
        edges[Edge(node, 0)] = QuantSpec(activation)
        edges[Edge(node, 1)] = QuantSpec(weight)
    return Plan("", "tensorrt", edges)


def test_operations_count_in_bits(graph):
    found = costs(graph, {"int8": plan_of("first", "sum")}, "fp16", SHAPES, "ops")
    whole = (2 * MACS + VALUES) * 16
    assert found.of["first"]["int8"] * whole == pytest.approx(MACS * 8)
    assert found.of["second"]["int8"] * whole == pytest.approx(MACS * 16)
    assert found.of["sum"]["int8"] * whole == pytest.approx(VALUES * 8)
    assert found.total({}) == pytest.approx(1.0)
    shares = found.shares({"first": "int8"})
    assert (shares["int8"].macs, shares["int8"].weights, shares["float"].macs) == (0.5, 0.5, 0.5)


def test_weights_alone_save_bytes_and_no_operations(graph):
    edges = {Edge("first", 1): QuantSpec("int8")}
    plans = {"int8": Plan("", "tensorrt", edges)}
    ops = costs(graph, plans, "fp16", SHAPES, "ops").of["first"]
    assert ops["int8"] == ops["float"]
    moved = costs(graph, plans, "fp16", SHAPES, "bytes").of["first"]
    # FP16: 16 x 16 weights and two activations of 1024 values, each 2 bytes
    assert moved["int8"] / moved["float"] == pytest.approx((256 + 4096) / (512 + 4096))


def test_the_roofline_is_the_slower_of_computing_and_moving(graph, monkeypatch):
    narrow = DEVICES["T4"].__class__("narrow", {"int8": 2e-6, "fp16": 1e-6}, 1e9, "")
    wide = DEVICES["T4"].__class__("wide", {"int8": 2e6, "fp16": 1e6}, 1e-9, "")
    monkeypatch.setitem(DEVICES, "narrow", narrow)
    monkeypatch.setitem(DEVICES, "wide", wide)
    plans = {"int8": plan_of("first", "second")}
    computing = costs(graph, plans, "fp16", SHAPES, "roofline:narrow").of["first"]
    assert computing["int8"] / computing["float"] == pytest.approx(1 / 2)
    moving = costs(graph, plans, "fp16", SHAPES, "roofline:wide").of["first"]
    assert moving["int8"] / moving["float"] == pytest.approx(1 / 2)


def test_size_counts_the_bits_of_codes_and_knows_no_node_without_weights(graph):
    plans = {"int8": plan_of("first", "sum"), "int4": plan_of("first", weight="int4-in-int8")}
    found = costs(graph, plans, "fp32", SHAPES, "size")
    assert found.of.keys() == {"first", "second"}
    assert found.of["first"] == pytest.approx({"int8": 0.125, "int4": 0.0625, "float": 0.5})
    assert found.shares({"first": "int4"})["int4"].weights == 0.5


def test_the_smaller_operand_of_a_product_is_its_size(graph_of):
    body = "(float[1, 4, 8] x, float[1, 8, 2] y) => (float[1, 4, 2] z) { z = MatMul(x, y) }"
    graph = graph_of(body)
    graph.nodes[0].name = "product"
    shapes = {"x": (1, 4, 8), "y": (1, 8, 2), "z": (1, 4, 2)}
    found = costs(graph, {"int8": plan_of("product")}, "fp16", shapes, "size")
    assert found.of["product"] == {"int8": 0.5, "float": 1.0}
    assert found.weights["product"] == 0


def test_4_bit_weights_of_a_conv_move_as_many_bytes_as_8_bit_ones(graph):
    plans = {"int8": plan_of("first"), "int4": plan_of("first", weight="int4-in-int8")}
    for cost in ("bytes", "roofline:L4"):
        first = costs(graph, plans, "fp16", SHAPES, cost).of["first"]
        assert first["int4"] == first["int8"] < first["float"]


def test_packed_4_bit_weights_are_half_the_bytes_and_computed_in_floats(graph, monkeypatch):
    device = DEVICES["T4"].__class__("device", {"int8": 2e-6, "fp16": 1e-6}, 1e9, "")
    monkeypatch.setitem(DEVICES, "device", device)
    plans = {"w4a8": plan_of("first", weight="int4"), "w8a8": plan_of("first")}
    first = costs(graph, plans, "fp16", SHAPES, "roofline:device").of["first"]
    assert first["w4a8"] == first["float"] == pytest.approx(2 * first["w8a8"])
    moved = costs(graph, plans, "fp16", SHAPES, "bytes").of["first"]
    # activations: one of INT8, one of INT8 as it is written; 256 weights of half a byte or one
    assert moved["w4a8"] / moved["w8a8"] == pytest.approx((2048 + 128) / (2048 + 256))


def test_a_type_the_device_has_not_is_refused(graph):
    plans = {"fp8": plan_of("first", weight="fp8", activation="fp8")}
    with pytest.raises(PlanError, match="T4 has no fp8"):
        costs(graph, plans, "fp16", SHAPES, "roofline:T4")


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_at_least_twice_as_fast_in_int8_as_in_fp16_and_names_its_source(name):
    rates = DEVICES[name].rates
    assert rates["int8"] >= 2 * rates["fp16"] > 2 * rates["fp32"] > 0
    assert DEVICES[name].gb_s > 0
    assert "NVIDIA" in DEVICES[name].source


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ("time", "unknown cost 'time'; choose ops, bytes, size, roofline:DEVICE"),
        ("roofline", "needs a device"),
        ("roofline:H200", "unknown device 'H200'; choose one of H100, A100"),
        ("engine", "--cost profile.json"),
    ],
)
def test_an_unknown_cost_is_refused_with_the_list(cost, said):
    with pytest.raises(PlanError) as e:
        check(cost)
    assert said in str(e.value)


def test_without_shapes_there_are_no_costs(graph):
    with pytest.raises(ModelError, match="no costs without shapes"):
        costs(graph, {"int8": plan_of("first")}, "fp16", {}, "ops")
