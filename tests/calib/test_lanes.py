"""Small samples are read and run side by side, each by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxq.arrays import Array
from onnxq.calib.collect import collect
from onnxq.calib.data import Dataset, InputInfo, open_data
from onnxq.calib.stats import Stats
from onnxq.model import graph as graphs

ROWS = 700
TENSORS = ("x", "h", "y")


def model() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 32] x) => (float[N, 10] y) { h = Gemm(x, w, b)  r = Relu(h)  y = MatMul(r, v) }"""
    rng = np.random.default_rng(0)
    parsed = onnx.parser.parse_model(text)
    for name, shape in (("w", (32, 48)), ("b", (48,)), ("v", (48, 10))):
        values = rng.standard_normal(shape).astype(np.float32)
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return parsed


@pytest.fixture
def rows(tmp_path: Path) -> Array:
    x = np.random.default_rng(1).standard_normal((ROWS, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    return x


def opened(folder: Path, shape: tuple[int | None, ...] = (None, 32)) -> Dataset:
    return open_data(str(folder / "x.npy"), {"x": InputInfo(shape, np.dtype(np.float32))})


class OneByOne:
    """The rows without a file that they lie in side by side."""

    def __init__(self, x: Array) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def sample(self, i: int) -> dict[str, Array]:
        return {"x": self.x[i : i + 1]}


def counted(data: Dataset | OneByOne, workers: int = 2) -> Stats:
    return collect(graphs.from_proto(model()), TENSORS, data, workers=workers)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_rows_side_by_side_are_counted_as_one_by_one(
    rows: Array, tmp_path: Path, workers: int
) -> None:
    assert counted(opened(tmp_path), workers) == counted(OneByOne(rows), 1)


def test_progress_counts_every_row(rows: Array, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    graph = graphs.from_proto(model())
    collect(graph, TENSORS, opened(tmp_path), progress=lambda *told: seen.append(told))
    assert seen == [(k + 1, ROWS) for k in range(ROWS)]


def test_a_sample_is_the_same_alone_and_in_a_block(rows: Array, tmp_path: Path) -> None:
    data = opened(tmp_path)
    for run in data.together([0, 1, 2, 5, 6, 4]):
        block = data.block(run)
        for j, i in enumerate(run):
            np.testing.assert_array_equal(block["x"][j], data.sample(i)["x"])
    assert list(data.together([0, 1, 2, 5, 6, 4])) == [[0, 1, 2], [5, 6], [4]]


def test_facts_of_a_block_are_those_of_its_samples(tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((40, 32)).astype(np.float32)
    x[3, 5], x[4, 6], x[7] = np.nan, -np.inf, 2.0
    np.save(tmp_path / "x.npy", x)
    together = opened(tmp_path).facts()
    alone = opened(tmp_path)
    assert together == [alone.noted([i], alone.block([i]))[0] for i in range(len(x))]
    assert [i for i, facts in enumerate(together) if facts.nonfinite] == [3, 4]
    assert [i for i, facts in enumerate(together) if facts.masked] == [4]
    assert [i for i, facts in enumerate(together) if facts.constant] == [7]


def test_samples_are_looked_at_once(
    rows: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(tmp_path)
    whole = data.digest()
    monkeypatch.setattr("onnxq.calib.data_sources.read_rows", lambda *_: pytest.fail("read again"))
    assert data.digest() == whole
    assert len(data.select(range(9)).facts()) == 9


@pytest.mark.parametrize("count", [5, 300])
def test_a_number_beside_the_rows_stays_one(tmp_path: Path, count: int) -> None:
    """An input without an axis, of which a file has one number a sample."""
    parsed = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
g (float[N, 4] x, bool c) => (float[N, 4] y) {
  y = If (c) <then_branch = a () => (float[N, 4] p) { p = Neg(x) },
              else_branch = b () => (float[N, 4] q) { q = Abs(x) }> }""")
    rng = np.random.default_rng(0)
    stacked = {"x": rng.standard_normal((count, 4)).astype(np.float32),
               "c": rng.random(count) < 0.5}  # fmt: skip
    np.savez(tmp_path / "xc.npz", **stacked)
    inputs = {"x": InputInfo((None, 4), np.dtype(np.float32)), "c": InputInfo((), np.dtype(bool))}
    data = open_data(str(tmp_path / "xc.npz"), inputs)
    assert data.block([0, 1])["c"].shape == (2,)
    found = collect(graphs.from_proto(parsed), ["x", "y"], data)
    flipped = np.where(stacked["c"][:, None], -stacked["x"], abs(stacked["x"]))
    assert (found["y"].min, found["y"].max) == (flipped.min(), flipped.max())
    assert found["y"].count == flipped.size
