"""How many samples a model is judged by where nobody says: what a second of inference allows."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.calib.data import InputInfo, open_data
from onnxq.calib.holdout import affordable, held_out
from onnxq.passes.prepare import prepare

CONV = "y = Conv(x, w)"


def large(times):
    """A Conv on images that many times as wide and high: 8 * 8 * 16 * 16 * times ** 2 products."""
    return """r = Resize<mode = "nearest">(x, , scales) y = Conv(r, w)""", {
        "scales": np.array([1, 1, times, times], np.float32)
    }


def count(graph_of, tmp_path, samples, body=CONV, weights=None):
    weights = {"w": np.zeros((16, 16, 1, 1), np.float32), **(weights or {})}
    graph = prepare(graph_of(f"(float[N, 16, 8, 8] x) => (float[N, C, H, W] y) {{ {body} }}",
                             weights))  # fmt: skip
    return affordable(graph, opened(tmp_path, np.zeros((samples, 16, 8, 8), np.float32)))


def opened(folder, rows):
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, rows)
    return open_data(str(path), {"x": InputInfo((1, *rows.shape[1:]), rows.dtype)})


@pytest.mark.parametrize(("samples", "expected"), [(20, 8), (143, 8), (160, 10), (2000, 64)])
def test_a_small_model_is_judged_by_a_share_of_plenty(graph_of, tmp_path, samples, expected):
    assert count(graph_of, tmp_path, samples) == expected


def test_a_second_of_inference_is_the_bound(graph_of, tmp_path):
    # a side of 800: 16 * 640,000 * (16 + 8) products and values written, and as many of the Resize
    body, weights = large(100)
    body = body.replace("y =", "c =") + " y = GlobalAveragePool(c)"
    takes = 640_000 * 16 * (16 + 8 + 8)
    assert 8 < count(graph_of, tmp_path, 2000, body, weights) == 10**10 // takes < 64


def test_what_the_outputs_hold_is_a_bound(graph_of, tmp_path):
    assert count(graph_of, tmp_path, 2000, *large(16)) == 2**22 // (16 * 128 * 128)


@pytest.mark.parametrize(
    "body",
    [
        'y = Einsum<equation = "nchw->nchw">(x)',
        "y = my.Work(x)",
    ],
)
def test_what_cannot_be_counted_is_judged_by_eight(graph_of, tmp_path, body):
    assert count(graph_of, tmp_path, 2000, body) == 8


def test_the_order_of_the_data_does_not_matter(graph_of, tmp_path, rng):
    graph = prepare(graph_of(f"(float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) {{ {CONV} }}",
                             {"w": np.zeros((16, 16, 1, 1), np.float32)}))  # fmt: skip
    rows = rng.normal(size=(320, 16, 8, 8)).astype(np.float32)
    chosen = []
    for order in (rows, rows[::-1]):
        data = opened(tmp_path, order)
        rest, check = held_out(data, affordable(graph, data))
        chosen.append((len(rest), len(check), check.digest()))
    assert chosen[0] == chosen[1]
    assert chosen[0][:2] == (300, 20)
