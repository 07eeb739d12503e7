"""Small programs that a user writes around `onnxq.quantize`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import get_type_hints

import numpy as np
import onnx
import pytest

import onnxq
from onnxq import Config, PlanOptions
from onnxq.errors import OnnxqError, PlanError
from onnxq.pipeline.keywords import Keywords, Several

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "classifier"
MODEL, CALIB = FIXTURE / "classifier.onnx", FIXTURE / "calib.npy"
DATA = np.load(CALIB)[:24]
FAST = {"recover": "none"}


def scales(result: onnxq.Quantized) -> dict[str, float]:
    return {name: r.amax for name, r in result.ranges.tensors.items()}


@pytest.fixture(scope="module")
def expected() -> dict[str, float]:
    return scales(onnxq.quantize(MODEL, DATA, recover="none"))


class Loader:
    """What a DataLoader looks like: batches with labels, and a length."""

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i in range(len(self)):
            yield DATA[i : i + 1], np.zeros(1)

    def __len__(self) -> int:
        return len(DATA)


@pytest.mark.parametrize(
    "model",
    [str(MODEL), MODEL, onnx.load(MODEL), MODEL.read_bytes()],
    ids=["str", "Path", "proto", "bytes"],
)
def test_a_model_is_a_path_or_in_memory(model, expected) -> None:
    assert scales(onnxq.quantize(model, DATA, recover="none")) == expected


@pytest.mark.parametrize(
    "data",
    [
        {"image": DATA},
        [{"image": x[None]} for x in DATA],
        Loader(),
    ],
    ids=["mapping", "list", "loader"],
)
def test_data_comes_in_any_form(data, expected) -> None:
    assert scales(onnxq.quantize(MODEL, data, recover="none")) == expected


def test_data_may_be_a_generator_or_one_path(expected) -> None:
    assert scales(onnxq.quantize(MODEL, ({"image": x[None]} for x in DATA), **FAST)) == expected
    assert onnxq.quantize(MODEL, CALIB, **FAST, samples=24).stats.samples


def test_options_are_keywords_by_the_names_of_the_command_line() -> None:
    result = onnxq.quantize(MODEL, DATA, method="max", skip="conv1", high_precision="fp16", **FAST)
    assert result.manifest["config"]["method"] == "max"
    assert result.manifest["config"]["skip"] == ["conv1"]
    with pytest.raises(PlanError, match="there is no option 'methd'; did you mean 'method'"):
        onnxq.quantize(MODEL, DATA, methd="max")  # type: ignore[call-arg]


def test_a_keyword_goes_before_the_configuration() -> None:
    config = Config(PlanOptions(keep_first=1), method="mse", recover="none")
    result = onnxq.quantize(MODEL, DATA, config, method="max")
    assert result.manifest["config"]["method"] == "max"
    assert result.manifest["config"]["keep_first"] == 1


def test_the_keywords_are_the_fields_of_the_options() -> None:
    hints = get_type_hints(Keywords)
    fields = {**get_type_hints(PlanOptions), **get_type_hints(Config)}
    del fields["placement"]
    assert hints == {n: Several if h == tuple[str, ...] else h for n, h in fields.items()}


def test_one_pattern_is_a_pattern_and_not_its_letters() -> None:
    assert PlanOptions(skip="conv1").skip == ("conv1",)  # type: ignore[arg-type]
    assert PlanOptions(skip=["a", "b"]).skip == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name", "value", "choices"),
    [
        (PlanOptions, "residual", "floot", "skip or float"),
        (PlanOptions, "deconv", "flaot", "float or per-tensor or per-channel"),
        (Config, "weight_method", "msee", "max or mse"),
        (Config, "io", "halff", "keep or half"),
        (Config, "high_precision", "fp61", "fp32 or fp16 or bf16"),
    ],
)
def test_a_mistyped_choice_is_an_error_when_it_is_made(kind, name, value, choices) -> None:
    with pytest.raises(PlanError) as e:
        kind(**{name: value})
    assert str(e.value) == f"unknown {name} '{value}'; choose {choices}"


def test_the_result_is_a_model_that_can_be_saved_and_shown(tmp_path: Path) -> None:
    result = onnxq.quantize(MODEL, DATA, **FAST)
    onnx.checker.check_model(result.model)
    saved = result.save(tmp_path / "q.onnx")
    assert isinstance(saved, onnxq.Quantized)
    assert saved.manifest["output"]["path"] == "q.onnx"
    assert onnx.load(tmp_path / "q.onnx").graph == result.model.graph
    result.report(tmp_path / "r.html")
    assert "<html" in (tmp_path / "r.html").read_text("utf-8")


def test_two_threads_and_another_process_give_the_same(expected) -> None:
    with ThreadPoolExecutor(2) as threads:
        made = [threads.submit(onnxq.quantize, MODEL, DATA, **FAST) for _ in range(2)]
        assert [scales(m.result()) for m in made] == [expected, expected]
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        assert processes.submit(_in_a_process).result() == expected


def _in_a_process() -> dict[str, float]:
    return scales(onnxq.quantize(MODEL, DATA, recover="none"))


def test_progress_and_logging_work_from_a_program(caplog) -> None:
    seen = []
    with caplog.at_level(logging.DEBUG, logger="onnxq"):
        onnxq.quantize(MODEL, DATA, progress=lambda *said: seen.append(said), **FAST)
    assert ("calibrate", len(DATA) - 3, len(DATA) - 3) in seen


@pytest.mark.parametrize(
    "data", [None, 3, [], "nowhere.npy", np.float32(1), [object()]], ids=range(6)
)
def test_what_is_no_data_is_an_error_of_one_line(data) -> None:
    with pytest.raises(OnnxqError) as e:
        onnxq.quantize(MODEL, data, **FAST)
    assert "\n" not in str(e.value)
