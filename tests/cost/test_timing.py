"""What a plan takes, learnt from one profile: by hand, and on a device whose true times are
known."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as sampled
from hypothesis import settings
from hypothesis import strategies as st
from made_device import MadeDevice

from onnxq.cost.fit import ratios_of
from onnxq.cost.paying import measured, predicted
from onnxq.cost.pricing import timed_costs
from onnxq.cost.shapes import usual_shapes
from onnxq.cost.timing import NOTHING, read_profile, timing_of
from onnxq.errors import OnnxqError
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import prepare
from onnxq.pipeline.steps import plan as planned
from onnxq.plan import Plan
from onnxq.run.segments import shapes_at, usual_inputs
from onnxq.search.choices import given
from onnxq.spec import Edge, QuantSpec

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODELS = ("classifier/classifier.onnx", "yolo_like/yolo_like.onnx")
# so slow that the work of a fixture tells
SMALL = MadeDevice(
    bandwidth=2e7, rates={"fp16": 4e8, "int8": 9e8}, launch=0.0005, small=6e3, noise=0.1
)
NODES = ("a", "b", "c", "d", "e", "f")
BODY = """(float[1, 64, 32, 32] x) => (float[1, 64, 32, 32] y) {
    a = Conv<kernel_shape = [1, 1]>(x, w)
    b = Relu(a)
    c = Conv<kernel_shape = [1, 1]>(b, w)
    d = Conv<kernel_shape = [1, 1]>(c, w)
    e = Softmax(d)
    y = Conv<kernel_shape = [1, 1]>(e, w)
}"""
TIMES = {"a + b": 0.05, "c": 0.04, "d": 0.06, "e": 0.02, "f": 0.03, "other": 0.01}


@pytest.fixture(scope="module")
def graph(graph_of):
    graph = graph_of(BODY, {"w": np.ones((64, 64, 1, 1), np.float32)})
    for node, name in zip(graph.nodes, NODES, strict=True):
        node.name = name
    return graph


@pytest.fixture(scope="module")
def opened():
    """(graph, shapes for a batch of 32, plan) of each model."""
    found = []
    for name in MODELS:
        source = prepare(FIXTURES / name)
        inputs = {name: (32, *shape[1:]) for name, shape in usual_inputs(source.graph).items()}
        found.append((source.graph, shapes_at(source.graph, inputs), planned(source, Config())))
    return dict(zip(MODELS, found, strict=True))


def written(path, document):
    path.write_text(json.dumps(document), "utf-8")
    return path


def of_times(graph, path, times=TIMES, high="fp16", rates=None):
    reading = read_profile(graph, written(path / "times.json", times))
    return timing_of(graph, reading, usual_shapes(graph), high, ratios_of(rates))


def on(device, opened, path, plan, high="fp16"):
    """What is learnt from an engine of a made-up device."""
    graph, shapes, _ = opened
    layers, profile = device.engine(graph, shapes, plan, high)
    reading = read_profile(graph, written(path / "p.json", profile), written(path / "l", layers))
    return timing_of(graph, reading, usual_shapes(graph), "fp32", ratios_of(None)), reading


def int8(*nodes):
    return Plan("", "", {Edge(n, i): QuantSpec() for n in nodes for i in (0, 1)})


def test_the_float_model_takes_what_was_measured_and_what_maps_to_nothing_is_counted(
    graph, tmp_path
):
    found = of_times(graph, tmp_path)
    assert found.total(NOTHING) == pytest.approx(0.2)
    assert (found.found.lost, found.found.lost_ms) == (1, 0.01)
    learnt = found.learnt(predicted(graph, int8("c", "d"), found))
    assert "1 kernel, 0.01 ms, map to no node and are left out" in learnt.lines()[1]


def test_a_tensor_between_two_int8_products_is_not_converted(graph, tmp_path):
    found = of_times(graph, tmp_path)
    assert found.stored(int8("c", "d")) == {"c": "int8"}
    alone = sum(found.converting(int8(n), found.stored(int8(n))) for n in "cd")
    both = found.converting(int8("c", "d"), found.stored(int8("c", "d")))
    assert both == pytest.approx(found.convert_ms("b", "int8"))
    assert both < alone


def test_softmax_writes_floats_so_what_reads_it_converts(graph, tmp_path):
    found = of_times(graph, tmp_path)
    assert "e" not in found.stored(int8("d", "f"))
    assert found.converting(int8("f"), {}) == pytest.approx(found.convert_ms("e", "int8"))


def test_a_stated_rate_counts(opened, tmp_path):
    graph, shapes, plan = opened[MODELS[0]]
    _, profile = MadeDevice(rates={"fp16": 2e8}).engine(graph, shapes, NOTHING)
    times = {entry["name"]: entry["averageMs"] for entry in profile if "name" in entry}
    slow, plain, fast = (
        of_times(graph, tmp_path, times, rates=text).total(plan)
        for text in ("int8=1", None, "int8=4")
    )
    assert slow > 1.1 * plain > 1.1 * 1.1 * fast


def test_the_costs_of_nodes_and_borders_add_up_to_the_time_of_a_plan(graph, tmp_path):
    found = of_times(graph, tmp_path)
    costs = timed_costs(graph, {"int8": int8("a", "c", "d", "f")}, found, usual_shapes(graph))
    assert math.fsum(c["float"] for c in costs.of.values()) == pytest.approx(1.0)
    for chosen in (("c",), ("c", "d"), ("a", "c", "d", "f"), ("d", "f")):
        total = math.fsum(c["int8" if n in chosen else "float"] for n, c in costs.of.items())
        for border in costs.borders:
            asked = [n for n in border.readers if n in chosen]
            few = border.able and len(asked) == len(border.readers) and (
                border.writer is None or border.writer in chosen
            )  # fmt: skip
            total += -border.saved if few else border.convert if asked else 0.0
        assert total == pytest.approx(costs.total({}, int8(*chosen)), rel=1e-6)


@settings(max_examples=10)
@sampled(st.floats(0.1, 10))
def test_times_that_are_all_longer_make_plans_longer_by_as_much_and_change_no_plan(
    opened, tmp_path_factory, factor
):
    graph, shapes, plan = opened[MODELS[0]]
    path = tmp_path_factory.mktemp("times")
    _, profile = MadeDevice().engine(graph, shapes, NOTHING)
    times = {entry["name"]: entry["averageMs"] for entry in profile if "name" in entry}
    once = of_times(graph, path, times)
    more = of_times(graph, path, {name: factor * ms for name, ms in times.items()})
    for some in (NOTHING, plan, plan.only(*plan.nodes[:5])):
        assert more.total(some) == pytest.approx(factor * once.total(some), rel=1e-3)
    assert [b.pays for b in predicted(graph, plan, more).blocks] == [
        b.pays for b in predicted(graph, plan, once).blocks
    ]


@pytest.mark.parametrize("profiled", ["float", "int8"])
@pytest.mark.parametrize("model", MODELS)
def test_plans_that_were_not_profiled_are_ranked_as_the_device_ranks_them(
    opened, tmp_path, model, profiled
):
    stats = pytest.importorskip("scipy.stats")
    graph, shapes, plan = opened[model]
    device = SMALL
    start = NOTHING if profiled == "float" else plan
    found, _ = on(device, opened[model], tmp_path, start)
    rng, mix = random.Random(0), given(graph, plan).mix
    true, guessed = [], []
    for _ in range(30):
        first, share = rng.randrange(len(plan.nodes)), rng.random()
        row = plan.nodes[first : first + 1 + int(share * len(plan.nodes))]
        some = [n for n in plan.nodes if rng.random() < share]
        held_out = mix(dict.fromkeys(row if rng.random() < 0.5 else some, "int8"))
        true.append(device.total(graph, shapes, held_out))
        guessed.append(found.total(held_out))
    assert stats.spearmanr(true, guessed)[0] >= (0.95 if profiled == "float" else 0.9)
    assert np.median(np.abs(np.divide(guessed, true) - 1)) < 0.1


def test_the_types_of_an_int8_engine_are_those_of_its_layers(opened, tmp_path):
    _, _, plan = opened[MODELS[0]]
    found, reading = on(MadeDevice(), opened[MODELS[0]], tmp_path, plan)
    assert found.total(plan) == pytest.approx(reading.total_ms, rel=0.1)
    assert found.high == "fp16"
    assert found.found.turns


def test_two_engines_say_what_pays_and_the_plan_of_it_is_as_fast_as_said(opened, tmp_path):
    graph, shapes, plan = opened[MODELS[1]]
    # INT8 of few channels is slow here: it pays in a part of the model
    device = MadeDevice(bandwidth=4e7, launch=0.001,
                        narrow={"fp16": 8.0, "int8": 120.0, "fp32": 8.0})  # fmt: skip
    _, a = on(device, opened[MODELS[1]], tmp_path, NOTHING)
    timing, b = on(device, opened[MODELS[1]], tmp_path, plan)
    pays = measured(graph, plan, a, b, timing)
    assert pays.float_ms == pytest.approx(a.total_ms)
    assert pays.quantized_ms == pytest.approx(b.total_ms)
    best = given(graph, plan).mix({n: "x" for n in plan.nodes if n not in pays.floats})
    assert device.total(graph, shapes, best) == pytest.approx(pays.best_ms, rel=0.05)
    assert pays.best_ms <= min(pays.float_ms, pays.quantized_ms) + 1e-9


@pytest.mark.parametrize(
    ("times", "line"),
    [
        ({"nobody": 1.0}, "no time of a node of the model"),
        ({"a": 1.0, "c": 1.0, "d": 1.0, "g": 4.0}, "most of its time goes to nodes .* such as 'g'"),
        ({"a + b": 0.0, "c": 0.0}, "has no times of layers: each is 0 milliseconds"),
        ({"a": 1.0, "c": 1.0}, "only 2 kernels of the model"),
        ({"w + QuantizeLinear_1 + a": 1.0}, "a profile does not tell types; give its layer info"),
    ],
)
def test_a_profile_that_says_too_little_is_refused(graph, tmp_path, times, line):
    with pytest.raises(OnnxqError, match=line):
        of_times(graph, tmp_path, times)


def test_onnx_runtime_multiplies_in_int8_only_where_the_result_is_quantized_too(graph, tmp_path):
    found = of_times(graph, tmp_path, {name: 100 * ms for name, ms in TIMES.items()})
    apart = Plan("", "onnxruntime", int8("c", "d").edges)
    stored = found.stored(apart)
    assert stored == {"c": "int8"}
    c, d = (found.found.of_node[name] for name in "cd")
    assert found.part_ms(c, apart, stored) < found.measured["c"]
    assert found.part_ms(d, apart, stored) > found.measured["d"]  # the Softmax reads floats
