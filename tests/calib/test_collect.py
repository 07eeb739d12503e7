"""Collecting: bit-identical for any order, split and number of workers."""

from __future__ import annotations

import threading

import numpy as np
import onnx
import pytest

from onnxq.calib import histogram, stats
from onnxq.calib.collect import collect
from onnxq.errors import DataError, ModelError
from onnxq.model import graph as graphs
from onnxq.run import runtime
from onnxq.run.segments import restrict

NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 3, H, W] x) => (float[N, 8, 1, 1] y)
{
  a = Conv <pads = [1, 1, 1, 1]> (x, w1)
  b = Relu(a)
  c = Conv <pads = [1, 1, 1, 1]> (b, w2)
  d = Add(c, b)
  e = Sigmoid(d)
  f = Mul(d, e)
  g = Conv(f, w3)
  y = GlobalAveragePool(g)
}
"""
OBSERVED = ["x", "b", "f"]


class Rows:
    """Samples in memory."""

    def __init__(self, samples):
        self.samples = list(samples)

    def __len__(self):
        return len(self.samples)

    def sample(self, i):
        return {"x": self.samples[i]}


@pytest.fixture(scope="module")
def net():
    model = onnx.parser.parse_model(NET)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 1, 1)}.items():
        w = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(w, name))
    return graphs.from_proto(model)


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(1)
    return [rng.standard_normal((1, 3, 64, 64)).astype(np.float32) for _ in range(7)]


def parse(text):
    return graphs.from_proto(onnx.parser.parse_model(text))


def same(a, b):
    return (a.histograms, a.samples, a.data) == (b.histograms, b.samples, b.data)


def test_histograms_are_those_of_the_tensors_that_a_plain_run_sees(net, samples):
    model = graphs.to_proto(restrict(net, ["b", "f"]))
    session = runtime.session(model, threads=1, optimize="none")
    seen = [session.run(["b", "f"], {"x": x}) for x in samples]
    result = collect(net, OBSERVED, Rows(samples), model="m")
    assert (result.model, result.samples) == ("m", len(samples))
    assert result["x"] == histogram.histogram_of(*samples)
    for name, arrays in zip(["b", "f"], zip(*seen, strict=True), strict=True):
        assert result[name].count == sum(a.size for a in arrays)
        # fused kernels add up in another order: last bits of a float32 sum of 72 products
        assert result[name].max == pytest.approx(max(a.max() for a in arrays), rel=1e-5)
        assert result[name].min == pytest.approx(min(a.min() for a in arrays), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_order_and_number_of_workers_gives_the_same_bits(net, samples, workers):
    reference = collect(net, OBSERVED, Rows(samples), workers=1)
    shuffled = [samples[i] for i in np.random.default_rng(2).permutation(len(samples))]
    for order in (samples, samples[::-1], shuffled):
        assert same(collect(net, OBSERVED, Rows(order), workers=workers), reference)


@pytest.mark.parametrize("at", [1, 3, 6])
def test_shards_add_up_to_the_whole(net, samples, at):
    whole = collect(net, OBSERVED, Rows(samples))
    parts = [collect(net, OBSERVED, Rows(part)) for part in (samples[:at], samples[at:])]
    assert same(stats.merge(*parts), whole)


def test_samples_of_different_shapes_are_counted_all(net):
    rng = np.random.default_rng(3)
    varied = [rng.standard_normal((1, 3, n, n)).astype(np.float32) for n in (16, 32, 16, 24)]
    result = collect(net, OBSERVED, Rows(varied))
    assert result["x"] == histogram.histogram_of(*varied)
    assert result["b"].count == sum(8 * x.size // 3 for x in varied)
    assert same(collect(net, OBSERVED, Rows(varied[::-1]), workers=1), result)


def test_infinities_inside_the_network_are_seen_in_the_histogram(net, samples):
    bad = samples[0].copy()
    bad[0, 0, 0, 0] = np.inf
    result = collect(net, OBSERVED, Rows([samples[1], bad]))
    assert result["x"].nonfinite == 1
    assert result["b"].nonfinite > 0


def test_a_tensor_in_a_branch_has_an_empty_histogram():
    net = parse(
        """
            <ir_version: 9, opset_import: ["" : 17]>
            net (float[1, 4] x) => (float[1, 4] y)
            {
              p = Constant <value = bool {1}> ()
              y = If (p) <
                then_branch = then () => (float[1, 4] t) { t = Abs(x) },
                else_branch = orelse () => (float[1, 4] f) { inner = Neg(x) f = Exp(inner) }
              >
            }
            """
    )
    data = Rows([np.ones((1, 4), np.float32)])
    result = collect(net, ["inner", "y"], data)
    assert result["inner"].count == 0
    assert result["y"].count == 4


def test_half_precision_tensors_are_counted():
    net = parse(
        """
            <ir_version: 9, opset_import: ["" : 17]>
            net (float[1, 4] x) => (float16[1, 4] y) { h = Cast <to = 10> (x) y = Neg(h) }
            """
    )
    x = np.array([[0.1, 2, 3, 4]], np.float32)
    assert collect(net, ["h"], Rows([x]))["h"] == histogram.histogram_of(x.astype(np.float16))


def test_an_unknown_tensor_is_an_error_that_names_it(net, samples):
    with pytest.raises(ModelError, match="no tensor 'nope'"):
        collect(net, ["nope"], Rows(samples))


def test_no_samples_is_an_error(net):
    with pytest.raises(DataError, match="no calibration samples"):
        collect(net, OBSERVED, Rows([]))


class Unreadable(Rows):
    def sample(self, i):
        if i == 3:
            raise DataError("sample 3 is cut short")
        return super().sample(i)


def test_an_error_of_a_worker_surfaces_as_itself_and_the_threads_end(net, samples):
    before = threading.active_count()
    with pytest.raises(DataError, match="sample 3 is cut short"):
        collect(net, OBSERVED, Unreadable(samples))
    assert threading.active_count() == before


def test_an_interrupt_ends_the_threads(net, samples):
    def interrupt(done, total):
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        collect(net, OBSERVED, Rows(samples * 50), progress=interrupt)
    assert threading.active_count() == before


def test_progress_counts_up_to_the_total_on_the_calling_thread(net, samples):
    seen = []
    collect(
        net,
        OBSERVED,
        Rows(samples),
        progress=lambda done, total: seen.append((done, total, threading.get_ident())),
    )
    here = threading.get_ident()
    assert seen == [(i, len(samples), here) for i in range(1, len(samples) + 1)]


def test_the_graph_is_left_alone(net, samples):
    before = graphs.to_proto(net).SerializeToString()
    collect(net, OBSERVED, Rows(samples[:2]))
    assert graphs.to_proto(net).SerializeToString() == before


def test_fixed_buffers_and_free_shapes_count_the_same_bits(net, samples):
    fixed = collect(net, OBSERVED, Rows(samples))
    other = samples[0][:, :, :32, :32].copy()  # one sample of another shape: no fixed buffers
    mixed = collect(net, OBSERVED, Rows([*samples, other]))
    assert same(mixed, stats.merge(fixed, collect(net, OBSERVED, Rows([other]))))


def test_a_shape_that_the_file_claims_wrongly_does_not_cut_the_counts():
    net = parse(
        """
        <ir_version: 9, opset_import: ["" : 17, "com.microsoft" : 1]>
        net (float[1, N] x) => (float[1, M] y)
        <float[1, 4] a>
        {
          a = com.microsoft.Gelu(x)
          b = Relu(a)
          y = Neg(b)
        }
        """
    )
    x = np.arange(8, dtype=np.float32).reshape(1, 8)
    result = collect(net, ["a", "b"], Rows([x, x]))
    assert (result["a"].count, result["b"].count) == (16, 16)


def test_shapes_that_depend_on_the_data_are_counted_all():
    net = parse(
        """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[8] x) => (float[K] y)
        {
          p = Relu(x)
          q = NonZero(p)
          f = Cast <to = 1> (q)
          y = Neg(f)
        }
        """
    )
    x = np.array([-1, 1, 1, -1, 1, -1, -1, -1], np.float32)
    result = collect(net, ["p", "f"], Rows([x, -x]))
    assert (result["p"].count, result["f"].count) == (16, 8)


def test_what_no_observed_tensor_needs_is_never_run():
    net = parse(
        """
        <ir_version: 9, opset_import: ["" : 17, "custom" : 1]>
        net (float[1, 4] x) => (float[1, 4] y) { a = Relu(x) y = custom.Postprocess(a) }
        """
    )
    data = Rows([np.ones((1, 4), np.float32)])
    assert collect(net, ["a"], data)["a"].count == 4
    with pytest.raises(ModelError, match=r"no op '\S*Postprocess'"):
        collect(net, ["y"], data)


def test_a_sample_without_an_input_says_which(net):
    class Misnamed(Rows):
        def sample(self, i):
            return {"image": self.samples[i]}

    with pytest.raises(DataError, match=r"no input 'x'.*\['image'\]"):
        collect(net, OBSERVED, Misnamed([np.zeros((1, 3, 8, 8), np.float32)]))


def test_data_of_a_wrong_dtype_is_refused(net, samples):
    with pytest.raises(ModelError, match="cannot run the model"):
        collect(net, OBSERVED, Rows([x.astype(np.float64) for x in samples]))


def test_a_tensor_that_crosses_several_segments_is_counted_once_a_sample(monkeypatch, net, samples):
    monkeypatch.setattr("onnxq.run.segments.SEGMENT_BYTES", 1)
    small = collect(net, OBSERVED, Rows(samples), workers=1)
    assert small["b"].count == 8 * 64 * 64 * len(samples)
