"""A mask in front of a Softmax sets no range, whatever stands for "not here"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxq import api
from onnxq.calib.hidden import UNSEEN, raised, without_hidden
from onnxq.calib.histogram import histogram_of
from onnxq.calib.stats import Stats
from onnxq.model.graph import Graph, to_proto
from onnxq.pipeline.config import Config
from onnxq.targets.options import PlanOptions

TOKENS, WIDTH = 12, 32
MASKED = {
    "add": "m = Mul(away, low) t = Add(s, m)",
    "first": "m = Mul(away, low) t = Add(m, s)",
    "with a bias": "m0 = Mul(away, low) m = Add(m0, bias) t = Add(s, m)",
    "moved": "m = Mul(away, low) t0 = Add(s, m) t1 = Unsqueeze(t0, zero) t = Squeeze(t1, zero)",
    "where": "b = Cast<to = 9>(away) t = Where(b, low, s)",
}
BODY = """(float[N,12,32] x) => (float[N,12,32] y) {
    q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) kt = Transpose<perm = [0, 2, 1]>(k)
    s = MatMul(q, kt) f = ReduceMax<axes = [2], keepdims = 1>(x) ft = Transpose<perm = [0, 2, 1]>(f)
    g = Less(ft, half) away = Cast<to = 1>(g) MASKED p = Softmax<axis = -1>(t) y = MatMul(p, v) }"""


@pytest.fixture
def attention(graph_of: Callable[..., Graph], rng: np.random.Generator) -> Callable[..., Graph]:
    """`attention("add", -1e9)`: about half of the tokens of a sample are masked with that."""

    def make(form: str, low: float) -> Graph:
        weights = {n: rng.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)) for n in ("wq", "wk", "wv")}
        weights |= {"low": low, "bias": rng.normal(0, 1, (1, TOKENS, TOKENS)), "half": 2.0}
        constants = {n: np.asarray(v, np.float32) for n, v in weights.items()}
        body = BODY.replace("MASKED", MASKED[form])
        constants["zero"] = np.array([0])
        return graph_of(body, {n: v for n, v in constants.items() if f"{n})" in body or
                               f"{n}," in body})  # fmt: skip

    return make


def sqnr(graph: Graph, folder: Path, scheme: str, rng: np.random.Generator) -> float:
    onnx.save(to_proto(graph), folder / "m.onnx")
    data = rng.standard_normal((16, TOKENS, WIDTH)).astype(np.float32)
    placement = PlanOptions(target="onnxruntime", scheme=scheme)
    result = api.quantize(folder / "m.onnx", data, Config(recover="none", placement=placement))
    return float(result.agreement.judged["y"].sqnr_db)


@pytest.mark.parametrize(
    ("form", "low"),
    [("add", -3.4e38), ("first", -1e9), ("with a bias", -1e9), ("moved", -10000.0),
     ("where", -np.inf)],
)  # fmt: skip
def test_a_mask_costs_sixteen_bits_nothing(
    form: str,
    low: float,
    attention: Callable[..., Graph],
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    for scheme in ("w16a16", "w8aint16"):  # 8-bit weights alone: 35 dB and more
        assert sqnr(attention(form, low), tmp_path, scheme, rng) > (
            55 if scheme == "w16a16" else 30
        )


def stats_of(**tensors: object) -> Stats:
    values = {name: np.asarray(v, np.float32) for name, v in tensors.items()}
    return Stats("m", {name: histogram_of(v) for name, v in values.items()}, 1)


def test_what_a_softmax_cannot_see_is_counted_where_it_saturates(
    attention: Callable[..., Graph],
) -> None:
    graph = attention("add", -1e9)
    found = without_hidden(graph, stats_of(s=[-3, 5], m=[0, -1e9], t=[-3, 5, -1e9, -np.inf]))
    assert found["s"] == histogram_of([-3, 5])
    assert found["m"] == histogram_of(np.float32([0, -10 - UNSEEN]))
    assert found["t"] == histogram_of(np.float32([-3, 5, -5 - UNSEEN, -5 - UNSEEN]))


def test_a_bias_within_reach_is_left_alone(attention: Callable[..., Graph]) -> None:
    stats = stats_of(s=[-3, 5], m=[-20, 3], t=[-22, 8])
    assert without_hidden(attention("add", -1e9), stats) is stats


def test_what_others_read_is_left_alone(attention: Callable[..., Graph]) -> None:
    graph = attention("add", -1e9)
    graph.outputs.append(graph.tensors()["m"])
    stats = stats_of(s=[-3, 5], m=[0, -1e9])
    assert without_hidden(graph, stats) is stats


def test_raised_values_are_those_of_a_clipped_tensor(rng: np.random.Generator) -> None:
    values = (rng.standard_normal(1000) * 10).astype(np.float32)
    assert raised(histogram_of(values), -4.0) == histogram_of(np.maximum(values, -4))
