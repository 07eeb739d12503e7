"""Samples as pictures: what is drawn, of which samples, and what is not drawn."""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxq_cli.main import run
from PIL import Image as PILImage

from onnxq.errors import PlanError
from onnxq.report.boxes import unit_of
from onnxq.report.encoded import png, reduced
from onnxq.report.maps import image_of
from onnxq.report.pictures import Pictures, pictures_for, pictures_of

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "yolo_like"
MODEL = FIXTURE / "yolo_like.onnx"
IMAGE = np.random.default_rng(0).random((1, 3, 32, 48), np.float32)


def opened(address: str) -> np.ndarray:
    """The pixels of a picture on the page."""
    kind, _, text = address.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(PILImage.open(io.BytesIO(b64decode(text))).convert("RGB"))


def data_of(path: Path) -> dict[str, Any]:
    """What a page shows."""
    text = path.read_text("utf-8")
    shown: dict[str, Any] = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    return shown


def one(pictures: Pictures, ref: dict[str, Any], test: dict[str, Any]) -> list[dict[str, Any]]:
    """The pictures of a single sample."""
    pictures(0, {"x": IMAGE}, ref, test)
    return [p for sample in pictures.shown() for p in sample["pictures"]]


@pytest.mark.parametrize("colours", [None, 256], ids=["RGB", "palette"])
def test_a_png_is_read_as_it_was_written(colours: int | None) -> None:
    rng = np.random.default_rng(1)
    if colours is None:
        pixels = rng.integers(0, 256, (5, 7, 3), np.uint8)
        file, expected = png(pixels), pixels
    else:
        pixels, palette = rng.integers(0, 256, (5, 7), np.uint8), rng.integers(0, 256, (256, 3))
        file, expected = png(pixels, palette), palette[pixels]
    read = np.asarray(PILImage.open(io.BytesIO(file)).convert("RGB"))
    np.testing.assert_array_equal(read, expected)


def test_a_large_picture_becomes_means_of_squares() -> None:
    values = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(reduced(values, 3), [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]])
    assert reduced(values, 6).shape == (4, 6)


@pytest.mark.parametrize(
    ("numbers", "unit"),
    [
        ([0.1, 0.9, 1.0], (640.0, 480.0)),
        ([-3.0, 120.0, 639.0], (1.0, 1.0)),
        ([*range(0, 640, 8), 1e5], (1.0, 1.0)),
        ([-2.0, 0.5, 3.1], None),
        ([10.0, 1900.0, 1080.0], None),
        ([np.nan], None),
    ],
    ids=["shares", "pixels", "an outlier", "not decoded", "of a larger image", "nothing"],
)
def test_boxes_are_drawn_where_their_unit_is_known(numbers: list[float], unit: Any) -> None:
    assert unit_of(np.array(numbers), (480, 640)) == unit


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page of a comparison of a detector with itself in 8 bits; `again`: of `report --golden`;
    `folder`: where its files are."""
    folder = tmp_path_factory.mktemp("pictures")
    data = [str(MODEL), "--calib", str(FIXTURE / "calib.npy"), "--samples", "6"]
    made = str(folder / "q.onnx")
    options = ["--recover", "none", "--check-samples", "2", "--report", str(folder / "q.html")]
    assert run(["quantize", *data, *options, "-o", made]) == 0
    compared = ["compare", str(MODEL), made, *data[1:], "--report", str(folder / "a.html")]
    assert run([*compared, "--save-golden", str(folder / "golden.npz")]) == 0
    golden = ["--golden", str(folder / "golden.npz"), "-o", str(folder / "b.html")]
    assert run(["report", made, *golden]) == 0
    made_again = data_of(folder / "b.html")["pictures"]
    return {**data_of(folder / "a.html"), "again": made_again, "folder": folder}


def test_detections_are_drawn_on_the_image(page: dict[str, Any]) -> None:
    shown = page["pictures"]
    assert [s["sample"] for s in shown][:2] == [0, 1]
    assert len(shown) == 4
    assert {s["samples"] for s in shown} == {6}
    (picture,) = shown[0]["pictures"]
    height, width = np.load(FIXTURE / "calib.npy", mmap_mode="r").shape[2:]
    assert (picture["width"], picture["height"]) == (width, height)
    seen = opened(picture["image"]).astype(float)
    expected = 255 * np.load(FIXTURE / "calib.npy", mmap_mode="r")[0].transpose(1, 2, 0)
    assert np.abs(seen - expected).mean() < 12  # JPEG
    assert len(picture["float"]) > 0
    for found in picture["float"] + picture["quantized"]:
        x1, y1, x2, y2 = found["box"]
        assert -8 <= x1 < x2 <= width + 8
        assert -8 <= y1 < y2 <= height + 8
        assert re.fullmatch(r"class \d 0\.\d\d|class \d 1\.00", found["label"])


def test_quantize_shows_the_samples_that_it_compared_on(page: dict[str, Any]) -> None:
    shown = data_of(page["folder"] / "q.html")["pictures"]
    assert [(s["sample"], s["samples"]) for s in shown] == [(0, 2), (1, 2)]
    assert all(s["pictures"][0]["kind"] == "boxes" for s in shown)


def test_golden_outputs_show_what_the_comparison_showed(page: dict[str, Any]) -> None:
    assert page["again"] == page["pictures"]


def test_what_one_model_alone_finds_is_told() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(MODEL)
    sample = {session.get_inputs()[0].name: np.load(FIXTURE / "calib.npy")[:1]}
    (name,) = (o.name for o in session.get_outputs())
    ref = {name: session.run(None, sample)[0]}
    blind = {name: np.concatenate([ref[name][:, :4], 0 * ref[name][:, 4:]], 1)}
    pictures = pictures_for(MODEL)
    pictures(0, sample, ref, ref)
    pictures(1, sample, ref, blind)
    same, lost = pictures.shown()
    assert not any(found["alone"] for found in same["pictures"][0]["float"])
    assert all(found["alone"] for found in lost["pictures"][0]["float"])
    assert lost["pictures"][0]["quantized"] == []
    assert (same["worst"], lost["worst"]) == (False, True)


def test_a_map_shows_the_channel_that_differs_most() -> None:
    ref = np.zeros((1, 3, 16, 24), np.float32)
    ref[0, 1] = np.linspace(0, 1, 24)
    test = ref.copy()
    test[0, 1, :, 20:] += 0.5
    (picture,) = one(Pictures(), {"y": ref}, {"y": test})
    assert picture["name"] == "y, channel 1 of 3"
    assert (picture["low"], picture["high"], picture["most"]) == (0.0, 1.5, pytest.approx(0.5))
    difference = opened(picture["difference"])
    assert (difference[:, :20] == 255).all()  # white: no difference
    assert (difference[:, 20:, 1] < 100).all()


def test_values_that_are_not_finite_do_not_reach_the_page(graph_of: Any) -> None:
    ref = np.ones((1, 2, 32, 48), np.float32)
    ref[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    image = IMAGE.copy()
    image[0, 0, 0, 0] = np.inf
    pictures = Pictures()
    outputs = {"y": ref, "pieces": [ref, ref[:, :, :5]], "none": np.zeros((0, 4))}
    pictures(0, {"x": image, "more": [image, 0]}, outputs, outputs)
    shown = pictures.shown()
    assert len(shown[0]["pictures"]) == 1
    json.dumps(shown, allow_nan=False)
    broken = pictures_for(MODEL)
    boxes = np.full((1, 7, 320), np.nan, np.float32)
    boxes[0, :, :300] = np.linspace(0, 100, 300)
    boxes[0, 4:] = 0.5
    broken(0, {"images": np.zeros((1, 3, 128, 128), np.float32)}, *[{"output0": boxes}] * 2)
    json.dumps(broken.shown(), allow_nan=False)
    assert broken.shown()


def test_classes_of_pixels_are_told_apart() -> None:
    labels = np.zeros((1, 32, 48), np.int64)
    other = labels.copy()
    other[:, :8] = 3
    (picture,) = one(Pictures(), {"y": labels}, {"y": other})
    assert picture["same"] == 0.75
    scores = np.random.default_rng(2).random((1, 5, 32, 48), np.float32)
    (picture,) = one(Pictures(), {"y": scores}, {"y": scores})
    assert (picture["name"], picture["same"]) == ("y, the largest of 5 channels", 1.0)


def test_what_a_sigmoid_writes_has_the_colours_of_0_to_1(graph_of: Any) -> None:
    graph = graph_of("(float[1,3,32,48] x) => (float[1,3,32,48] y) {y = Sigmoid(x)}")
    pictures = pictures_of(graph, {})
    tiny = np.full((1, 1, 32, 48), 1e-7, np.float32)
    (picture,) = one(pictures, {"y": tiny}, {"y": 0 * tiny})
    assert (picture["low"], picture["high"]) == (0.0, 1.0)
    assert (opened(picture["difference"]) == 255).all()


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        ({"x": IMAGE}, np.zeros((1, 84, 8400))),
        ({"x": IMAGE}, np.zeros((1, 64, 20, 20))),
        ({"x": IMAGE, "past": IMAGE}, np.zeros((1, 1, 32, 48))),
        ({"x": np.zeros((1, 77), np.int64)}, np.zeros((1, 12, 77, 77))),
        ({"x": IMAGE}, np.array([["text"]])),
    ],
    ids=["rows", "other axes", "two inputs", "attention", "text"],
)
def test_what_is_no_map_of_the_image_is_not_drawn(inputs: Any, output: Any) -> None:
    pictures = Pictures()
    pictures(0, inputs, {"y": output}, {"y": output})
    assert pictures.shown() == []


@pytest.mark.parametrize(
    "values",
    [255 * IMAGE[0], (255 * IMAGE[0]).astype(np.uint8), IMAGE[0], (IMAGE[0] - 0.4) / 0.2],
    ids=["0 to 255", "bytes", "0 to 1", "normalized"],
)
def test_an_image_looks_the_same_however_it_is_read(values: np.ndarray) -> None:
    for laid in (values[None], values.transpose(1, 2, 0)[None]):
        found = image_of({"x": laid})
        assert found is not None
        assert found.size == (32, 48)
        expected = 255 * IMAGE[0].transpose(1, 2, 0)
        np.testing.assert_allclose(found.pixels, expected, atol=1.5)


def test_the_first_samples_and_the_worst_are_kept_and_a_new_run_begins_anew() -> None:
    pictures = Pictures()
    ref = np.ones((1, 1, 32, 48), np.float32)
    for errors in ([0.9, 0.9, 0.9], [0.1, 0.0, 0.2, 0.5, 0.3, 0.4]):
        for i, error in enumerate(errors):
            pictures(i, {"x": IMAGE}, {"y": ref}, {"y": ref + error})
    assert [s["sample"] for s in pictures.shown()] == [0, 1, 3, 5]
    assert [s["worst"] for s in pictures.shown()] == [False, False, True, False]


DRAWS = """
import numpy as np
def boxes(inputs, outputs):
    return outputs["y"].reshape(-1, 6)
def picture(inputs, outputs):
    return np.full((8, 8, 3), outputs["y"].flat[0], np.uint8)
def wrong(inputs, outputs):
    return outputs["y"]
def fails(inputs, outputs):
    raise KeyError("z")
"""


def test_a_function_of_the_user_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph_of: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "draws_it.py").write_text(DRAWS)
    graph = graph_of("(float[1,3,32,48] x) => (float[1,3,32,48] y) {y = Relu(x)}")
    row, other = ({"y": np.array(r, np.float32)} for r in ([[1, 2, 9, 8, 0.5, 1]], [[0] * 6]))
    names = {"names": "{0: 'cat', 1: 'dog'}"}
    (picture,) = one(pictures_of(graph, names, "draws_it:boxes"), row, other)
    assert picture["float"] == [{"box": [1, 2, 9, 8], "label": "dog 0.50", "alone": True}]
    (picture,) = one(pictures_of(graph, {}, "draws_it:picture"), row, other)
    assert (opened(picture["float"]) <= 3).all()
    for name, said in (("wrong", r"returned float32 \[6\]"), ("fails", "KeyError"),
                       ("none", "cannot be imported")):  # fmt: skip
        flat = {"y": row["y"].ravel()}
        with pytest.raises(PlanError, match=said):
            one(pictures_of(graph, {}, f"draws_it:{name}"), flat, flat)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["compare", str(MODEL), "q.onnx", "--calib", "x", "--draw", "a:b"], "--report"),
        (["report", "q.onnx", "--draw", "a:b"], "--golden"),
        (["report", "q.onnx", "--golden", "q.onnx"], "golden outputs"),
    ],
    ids=["no page", "no samples", "no golden file"],
)
def test_what_cannot_be_drawn_is_one_line(
    page: dict[str, Any], monkeypatch: Any, capsys: Any, options: list[str], said: str
) -> None:
    monkeypatch.chdir(page["folder"])
    assert run([*options, *(["-o", "no.html"] * (options[0] == "report"))]) == 2
    lines = [x for x in capsys.readouterr().err.strip().splitlines() if "error:" in x.lower()
             or x.startswith("onnxq")]  # fmt: skip
    assert said in lines[-1]
    assert not (page["folder"] / "no.html").exists()


def test_a_function_of_the_user_scores_both_models(
    page: dict[str, Any], monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(page["folder"])
    Path("scores_it.py").write_text(
        "def mean(outputs):\n"
        "    every = [row['output0'].max() for row in outputs]\n"
        "    return {'mean': sum(every) / len(every), 'stderr': 0.5}\n"
    )
    asked = ["compare", str(MODEL), "q.onnx", "--calib", str(FIXTURE / "calib.npy"),
             "--samples", "2", "--metric", "scores_it:mean"]  # fmt: skip
    assert run([*asked, "--json", "--report", "s.html"]) == 0
    told = json.loads(capsys.readouterr().out)["metric"]
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(MODEL)
    images = np.load(FIXTURE / "calib.npy")
    card = next(c for c in data_of(Path("s.html"))["summary"] if c["label"] == "scores_it:mean")
    assert card["value"] == f"{told['quantized']:.4g}"
    assert card["note"] == f"± 0.5; float {told['float']:.4g} ± 0.5; 2 samples"
    every = [session.run(None, {"images": x[None]})[0].max() for x in images]
    assert any(
        told["float"] == pytest.approx((a + b) / 2) for a in every for b in every if a is not b
    )
    assert told["quantized"] != told["float"]
    assert run(asked) == 0
    assert f"scores_it:mean: float {told['float']:.5g} ± 0.5" in capsys.readouterr().out
    assert run([*asked[:-1], "sqnr"]) == 2
    assert "--metric sqnr" in capsys.readouterr().err
