"""Golden outputs: kept, and what came back from a device judged by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import onnxq
from onnxq.errors import DataError

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "yolo_like"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a detector in INT8, golden outputs, and what a faultless device gives."""
    folder = tmp_path_factory.mktemp("golden")
    model, calib = FOLDER / "yolo_like.onnx", FOLDER / "calib.npy"
    onnxq.quantize(model, calib, samples=4, check_samples=1, recover="none").save(folder / "q.onnx")
    count = onnxq.save_golden(
        model, folder / "q.onnx", calib, folder / "golden.npz", onnxq.Config(samples=4)
    )
    assert count == 4
    return folder


def run(folder, change=lambda i, x: x):
    """Outputs of the INT8 model for the golden inputs, changed as a device may."""
    session = ort.InferenceSession(folder / "q.onnx")
    (given,) = session.get_inputs()
    names = [o.name for o in session.get_outputs()]
    with np.load(folder / "golden.npz") as golden:
        found = [session.run(names, {given.name: golden[f"input/{given.name}/{i}"]})
                 for i in range(4)]  # fmt: skip
    return {name: [change(i, x[k]) for i, x in enumerate(found)] for k, name in enumerate(names)}


def stacked(outputs):
    return {name: np.concatenate(each) for name, each in outputs.items()}


def test_a_device_that_rounds_a_little_otherwise_passes(made, tmp_path):
    np.savez(tmp_path / "o.npz", **stacked(run(made, lambda _, x: x.astype(np.float16))))
    found = onnxq.judge_device(made / "golden.npz", tmp_path / "o.npz")
    assert {"boxes", "scores"} <= set(found.parts)
    assert found.failures == []


def test_an_error_in_the_scores_alone_is_found_though_boxes_are_larger(made, tmp_path):
    def spoiled(_, x):
        x = x.copy()
        x[:, 4:] = x[:, 4:] * 0.5
        return x

    np.savez(tmp_path / "o.npz", **stacked(run(made, spoiled)))
    (line,) = onnxq.judge_device(made / "golden.npz", tmp_path / "o.npz").failures
    assert line.startswith("scores: ")


def test_an_error_in_a_single_sample_is_found_and_the_sample_named(made, tmp_path):
    def spoiled(i, x):
        return x + np.random.default_rng(0).normal(0, 0.7, x.shape).astype("f4") * (i == 2)

    np.savez(tmp_path / "o.npz", **stacked(run(made, spoiled)))
    found = onnxq.judge_device(made / "golden.npz", tmp_path / "o.npz")
    assert found.failures
    assert {part.worst[0] for name, part in found.parts.items() if part.failure(name)} == {2}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_fails(made, tmp_path, value):
    def spoiled(i, x):
        x = x.copy()
        x[0, 0, 0] = value if i == 1 else x[0, 0, 0]
        return x

    np.savez(tmp_path / "o.npz", **stacked(run(made, spoiled)))
    assert onnxq.judge_device(made / "golden.npz", tmp_path / "o.npz").failures


def test_an_array_a_sample_and_polygraphys_json_are_read(made, tmp_path):
    from polygraphy.comparator import RunResults
    from polygraphy.comparator.struct import IterationResult

    outputs = run(made)
    apart = {f"{name}/{i}": x for name, each in outputs.items() for i, x in enumerate(each)}
    np.savez(tmp_path / "o.npz", **apart)
    wanted = onnxq.judge_device(made / "golden.npz", tmp_path / "o.npz").as_dict()
    assert wanted["failures"] == []
    results = RunResults()
    results.append(("trt-runner-N0", [
        IterationResult({name: each[i] for name, each in outputs.items()}) for i in range(4)
    ]))  # fmt: skip
    results.save(str(tmp_path / "o.json"))
    assert onnxq.judge_device(made / "golden.npz", tmp_path / "o.json").as_dict() == wanted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda o: {"other": next(iter(o.values()))}, "has no output"),
        (lambda o: {n: x[:3] for n, x in o.items()}, "run the device on all"),
        (lambda o: {n: x[:, :, 1:] for n, x in o.items()}, "the golden one"),
        (lambda o: {n: x.astype("U8") for n, x in o.items()}, "no numbers"),
    ],
    ids=["name", "samples", "shape", "text"],
)
def test_outputs_that_do_not_belong_to_the_inputs_are_refused(made, tmp_path, change, said):
    np.savez(tmp_path / "o.npz", **change(stacked(run(made))))
    with pytest.raises(DataError, match=said):
        onnxq.judge_device(made / "golden.npz", tmp_path / "o.npz")


@pytest.mark.parametrize(
    "name", ["none.npz", "text.npz", "other.npz", "text.json", "deep.json", "x.txt"]
)
def test_files_of_another_kind_are_refused_in_one_line(made, tmp_path, name, capsys):
    (tmp_path / "deep.json").write_text("[" * 20_000 + "]" * 20_000, "utf-8")
    (tmp_path / "text.npz").write_text("no archive", "utf-8")
    (tmp_path / "text.json").write_text("{}", "utf-8")
    (tmp_path / "x.txt").write_text("{}", "utf-8")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for golden, outputs in ((made / "golden.npz", tmp_path / name),
                            (tmp_path / name, made / "golden.npz")):  # fmt: skip
        with pytest.raises(DataError) as e:
            onnxq.judge_device(golden, outputs)
        assert "\n" not in str(e.value)
    assert capsys.readouterr() == ("", "")  # Polygraphy says it too, in four lines
