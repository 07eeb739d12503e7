"""Counts taken where a tensor is are those of an `Accumulator`, on a GPU too where one is here."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxq.calib import device_counts
from onnxq.calib.collect import collect
from onnxq.calib.device_counts import DeviceAccumulator, compile_counters
from onnxq.calib.histogram import Accumulator, histogram_of
from onnxq.model import graph as graphs
from onnxq.run import on_device, providers, runtime, segments

PROVIDERS = ["cpu"] if providers.trouble_with_cuda() else ["cpu", "cuda"]
NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 3, H, W] x) => (float[N, 8, 1, 1] y)
{
  a = Conv <pads = [1, 1, 1, 1]> (x, w1)
  b = Relu(a)
  c = Conv <pads = [1, 1, 1, 1]> (b, w2)
  d = Add(c, b)
  h = Cast <to = 10> (d)
  y = GlobalAveragePool(d)
}
"""
OBSERVED = ["x", "b", "c", "d", "h", "y"]
COUNTERS = {name: compile_counters(runtime.Runtime(name)) for name in PROVIDERS}


class Rows:
    """Samples in memory."""

    def __init__(self, samples):
        self.samples = list(samples)

    def __len__(self):
        return len(self.samples)

    def sample(self, i):
        return {"x": self.samples[i]}


on_each_provider = pytest.mark.parametrize("provider", PROVIDERS)


def placed(x, provider):
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(x), COUNTERS[provider].device, 0)


def counted(provider, *arrays):
    accumulator = DeviceAccumulator(COUNTERS[provider])
    for x in arrays:
        accumulator.observe(placed(x, provider))
    return accumulator.histogram()


@on_each_provider
def test_floats_and_both_halves_are_counted_on_the_device(provider):
    assert sorted(COUNTERS[provider].sessions) == [
        "tensor(bfloat16)",
        "tensor(float)",
        "tensor(float16)",
    ]


@on_each_provider
@given(x=hnp.arrays(np.uint32, st.integers(0, 200)))
def test_any_bits_of_a_float_are_counted_as_on_the_host(provider, x):
    assert counted(provider, x.view(np.float32)) == histogram_of(x.view(np.float32))


@on_each_provider
@given(x=hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_any_values_in_any_shape_are_counted_as_on_the_host(provider, x):
    assert counted(provider, x) == histogram_of(x)


@on_each_provider
@given(x=hnp.arrays(np.uint16, st.integers(0, 200)))
def test_any_bits_of_a_half_are_counted_as_on_the_host(provider, x):
    assert counted(provider, x.view(np.float16)) == histogram_of(x.view(np.float16))


@on_each_provider
def test_powers_of_two_and_their_neighbours_fall_into_the_same_bins(provider):
    powers = np.float32(2) ** np.arange(-149, 128, dtype=np.float32)
    infinity = np.float32(np.inf)
    x = np.concatenate([np.nextafter(powers, -infinity), powers, np.nextafter(powers, infinity)])
    x = np.concatenate([x, -x, np.float32([0, -0.0])])
    assert counted(provider, x) == histogram_of(x)


@on_each_provider
@pytest.mark.parametrize("value", [0.0, -0.0, -3.5, 1e-45, -1e-40, 3e38, np.inf, -np.inf, np.nan])
def test_one_value_alone_is_minimum_and_maximum(provider, value):
    x = np.full(5, value, np.float32)
    found = counted(provider, x)
    assert found == histogram_of(x)
    assert found.count == 5


@on_each_provider
def test_bfloat16_is_counted_by_its_own_bits(provider):
    cast = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[N] x) => (bfloat16[N] y)'
        "{ y = Cast<to = 16>(x) }"
    )
    bits = np.arange(1 << 16, dtype=np.uint32) << 16
    x = np.delete(bits, np.flatnonzero((bits & 0x7FFFFFFF) > 0x7F800000)).view(np.float32)
    session = runtime.session(cast, runtime.Runtime(provider), threads=1)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", COUNTERS[provider].device, 0)
    session.run_with_iobinding(binding)
    accumulator = DeviceAccumulator(COUNTERS[provider])
    accumulator.observe(binding.get_outputs()[0])
    assert accumulator.histogram() == histogram_of(x)


@on_each_provider
def test_counting_goes_on_after_it_was_read_and_across_types(provider):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=n).astype(t) for n, t in ((999, "f4"), (50, "f2"), (7, "f4"))]
    accumulator = DeviceAccumulator(COUNTERS[provider])
    for done, x in enumerate(parts, 1):
        accumulator.observe(placed(x, provider))
        if done != 2:
            assert accumulator.histogram() == histogram_of(*parts[:done])


@on_each_provider
def test_arrays_count_beside_tensors_on_the_device(provider):
    x, y = np.float32([1, 2, -7]), np.float32([3, 9])
    accumulator = DeviceAccumulator(COUNTERS[provider])
    accumulator.observe(x)
    accumulator.observe(placed(y, provider))
    assert accumulator.histogram() == histogram_of(x, y)


@on_each_provider
@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int8, np.bool_])
def test_tensors_of_other_types_come_back_whole(provider, dtype):
    x = np.random.default_rng(0).normal(scale=9, size=(3, 50)).astype(dtype)
    assert counted(provider, x) == histogram_of(x)


@on_each_provider
def test_counters_are_emptied_before_they_are_full(provider, monkeypatch):
    monkeypatch.setattr(device_counts, "MOST", 1000)
    zeros, large = np.zeros(700, np.float32), np.ones(1001, np.float32)
    accumulator = DeviceAccumulator(COUNTERS[provider])
    for x in (zeros, zeros, large, zeros):
        accumulator.observe(placed(x, provider))
        assert accumulator.waiting <= 1000
    assert accumulator.histogram() == histogram_of(zeros, zeros, large, zeros)


@on_each_provider
def test_a_device_that_counts_wrong_is_not_relied_on(provider, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "onnxq")
    broken = device_counts.FLOATS.replace('reduction = "add"', 'reduction = "none"')
    monkeypatch.setattr(device_counts, "FLOATS", broken)
    counters = compile_counters(runtime.Runtime(provider))
    assert sorted(counters.sessions) == ["tensor(bfloat16)", "tensor(float16)"]
    assert "cannot count tensor(float) right" in caplog.text
    x = np.float32([1, 1, 1, 2])
    accumulator = DeviceAccumulator(counters)
    accumulator.observe(placed(x, provider))
    assert accumulator.histogram() == histogram_of(x)


@on_each_provider
def test_a_device_without_a_kernel_is_not_relied_on(provider, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "onnxq")
    monkeypatch.setattr(
        device_counts, "PATTERNS", device_counts.PATTERNS.replace("Shape(bits)", "No(bits)")
    )
    counters = compile_counters(runtime.Runtime(provider))
    assert list(counters.sessions) == ["tensor(float)"]
    assert "cannot count tensor(float16) right" in caplog.text


@pytest.fixture(scope="module")
def net():
    model = onnx.parser.parse_model(NET)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3)}.items():
        w = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(w, name))
    return graphs.from_proto(model)


def sessions_of(net, provider, segment_bytes=0):
    part, where = segments.restrict(net, OBSERVED[1:]), runtime.Runtime(provider)
    cut = segments.cut(part, set(OBSERVED), segment_bytes)
    models = [graphs.to_proto(segments.subgraph(part, segment)) for segment in cut]
    return [(s, runtime.session(m, where, threads=1)) for s, m in zip(cut, models, strict=True)]


@on_each_provider
def test_a_model_in_segments_is_counted_as_where_every_tensor_is_fetched(net, provider):
    pairs = sessions_of(net, provider, segment_bytes=1)
    assert len(pairs) > 3
    rng = np.random.default_rng(1)
    samples = [rng.normal(size=(1, 3, n, 9)).astype(np.float32) for n in (8, 12, 8)]
    on_the_device = {name: DeviceAccumulator(COUNTERS[provider]) for name in OBSERVED}
    fetched = {name: Accumulator() for name in OBSERVED}
    for x in samples:
        live = {"x": x}
        on_the_device["x"].observe(x)
        fetched["x"].observe(x)
        arrays = {"x": x}
        for step, (segment, session) in zip(on_device.steps(pairs), pairs, strict=True):
            feeds = {name: arrays[name] for name in segment.inputs}
            found = runtime.run(session, segment.outputs, feeds)
            arrays.update(zip(segment.outputs, found, strict=True))
            for name, value in step(live).items():
                if name in OBSERVED:
                    on_the_device[name].observe(value)
                    fetched[name].observe(arrays[name])
        assert not live
    for name in OBSERVED:
        assert on_the_device[name].histogram() == fetched[name].histogram()


def test_steps_on_the_cpu_give_the_statistics_of_collect(net):
    rng = np.random.default_rng(2)
    rows = Rows(rng.normal(size=(2, 1, 3, 16, 16)).astype(np.float32))
    found = {name: DeviceAccumulator(COUNTERS["cpu"]) for name in OBSERVED}
    steps = on_device.steps(sessions_of(net, "cpu"))
    for i in range(len(rows)):
        live = rows.sample(i)
        found["x"].observe(live["x"])
        for step in steps:
            for name, value in step(live).items():
                found[name].observe(value)
    stats = collect(net, OBSERVED, rows)
    for name in OBSERVED:
        assert found[name].histogram() == stats[name]


def test_the_nodes_that_stay_on_the_cpu_are_named(caplog):
    caplog.set_level(logging.INFO, "onnxq")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[N] x) => (float[N] z)'
        "{ y = Relu(x) z = Relu(y) }"
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=[providers.CPU]
    )
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip("this ONNX Runtime keeps no record of it")
    on_device.log_nodes_on_cpu([session])
    assert "2 nodes run on the CPU" in caplog.text
    assert "2 Relu" in caplog.text
