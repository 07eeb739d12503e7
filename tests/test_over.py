"""A model over samples: what it is fed, and that results come in the order of the samples."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from onnxq.errors import CannotRun
from onnxq.run import segments
from onnxq.run.over import each, in_order, loaded, opened, written
from onnxq.run.runtime import Runtime

MODEL = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 17]>
    halves (float16[N] x) => (float16[N] y) { y = Neg(x) }
""")


class Few:
    """Samples of one number each."""

    def __len__(self) -> int:
        return 8

    def sample(self, i):
        return {"x": np.array([i], np.float32), "of another model": np.zeros(1)}


def test_a_model_is_fed_what_it_reads_in_its_types():
    y = loaded(MODEL)(Few().sample(3))["y"]
    assert (y.dtype, y.tolist()) == (np.float16, [-3.0])


def test_an_input_that_a_sample_lacks_is_named():
    with pytest.raises(CannotRun, match="'x'"):
        loaded(MODEL)({})


@pytest.mark.parametrize("workers", [1, 3])
def test_each_sample_is_read_and_results_are_in_order(workers):
    found = each(MODEL, Few(), lambda i, outputs: (i, float(outputs["y"][0])), workers=workers)
    assert found == [(i, -float(i)) for i in range(8)]


@pytest.mark.parametrize("ahead", [0, 1, 5, 50])
def test_results_come_in_the_order_of_the_jobs(ahead):
    def job(i):
        time.sleep(0.001 * (i % 3))
        return i

    with ThreadPoolExecutor(3) as pool:
        jobs = ((lambda i=i: job(i)) for i in range(20))
        assert list(in_order(pool, jobs, ahead)) == list(range(20))


def test_segments_in_turn_compute_what_the_whole_does(graph_of, run_graph, rng):
    graph = graph_of("(float[2,3] x) => (float[2,3] y, float[2,3] z) {"
                     "a = Exp(x) b = Neg(a) y = Add(a, b) z = Relu(b)}")  # fmt: skip
    part = segments.restrict(graph, ["y", "z"])
    x = rng.normal(size=(2, 3)).astype(np.float32)
    live = {"x": x}
    for segment in segments.cut_at(part, [1, 2, 4], {"y", "z"}):
        session = opened(part, segment, Runtime())
        live |= written(segment, session, live)
    for name, value in zip(("y", "z"), run_graph(graph, {"x": x}), strict=True):
        np.testing.assert_array_equal(live[name], value)
