"""Calibration data that a program has in hand: arrays, mappings, lists, generators, loaders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from onnxq.calib.in_memory import in_memory
from onnxq.errors import DataError

ONE = {"x": (1, 3, 2)}
TWO = {"x": (None, 3), "mask": (None, 3)}
ROWS = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


class Loader:
    """What DataLoaders of the field look like: batches, with labels, and a length."""

    def __iter__(self) -> Iterator[tuple[np.ndarray, list[int]]]:
        yield ROWS[:3], [1, 2, 3]
        yield ROWS[3:], [4]

    def __len__(self) -> int:
        return 2


class Tensor:
    """An array of another library."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


def rows_of(data: object, inputs: Any = ONE, limit: int | None = None) -> list[np.ndarray]:
    source = in_memory(data, inputs, limit)
    return [np.asarray(source.record(i)["x"]).reshape(3, 2) for i in range(len(source))]


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        Tensor(ROWS),
        {"x": ROWS},
        [{"x": row} for row in ROWS],
        [{"x": row[None]} for row in ROWS],
        list(ROWS),
        [(row, 7) for row in ROWS],
        [Tensor(row[None]) for row in ROWS],
        Loader(),
        [{"x": ROWS[:2], "label": np.zeros(2)}, {"x": ROWS[2:], "label": np.zeros(2)}],
    ],
    ids=range(10),
)
def test_the_same_samples_in_any_form(data: object) -> None:
    np.testing.assert_array_equal(rows_of(data), ROWS)


def test_a_generator_is_read_once_and_no_further_than_asked() -> None:
    read = []

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        for i in range(100):
            read.append(i)
            yield {"x": ROWS[0] + i}

    assert len(rows_of(feeds(), limit=5)) == 5
    assert read == list(range(5))


def test_arrays_for_several_inputs_come_by_name_or_in_their_order() -> None:
    x, mask = np.ones((2, 3), np.float32), np.zeros((2, 3), np.int64)
    for data in ({"x": x, "mask": mask}, [(x[:1], mask[:1]), (x[1:], mask[1:], "label")]):
        source = in_memory(data, TWO, None)
        assert len(source) == 2
        assert source.record(1)["mask"].dtype == np.int64


def test_a_batch_of_a_model_with_a_free_batch_stays_one_sample() -> None:
    source = in_memory([{"x": np.ones((5, 3)), "mask": np.ones((5, 3))}], TWO, None)
    assert source.record(0)["x"].shape == (5, 3)


@pytest.mark.parametrize(
    ("data", "inputs", "said"),
    [
        (ROWS, TWO, "a mapping with an array for each"),
        (3, ONE, "not int"),
        ({}, ONE, "holds no arrays"),
        ({"x": np.float32(1)}, ONE, "first axis is the sample axis"),
        ({"x": ROWS, "mask": ROWS[:1]}, TWO, "different numbers of samples"),
        ([object()], ONE, "yields object as record 0"),
        (["text"], ONE, "yields str as record 0"),
        ([{"x": object()}], ONE, "array of Python objects"),
        ((1 / 0 for _ in range(3)), ONE, "ZeroDivisionError"),
    ],
)
def test_what_is_no_data_is_refused_in_a_line(data: object, inputs: Any, said: str) -> None:
    with pytest.raises(DataError) as e:
        in_memory(data, inputs, None)
    assert said in str(e.value)
    assert "\n" not in str(e.value)
