"""`onnxq data --through`: what one model gives is the data of the next."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxq import api
from tests.streaming import OPTIONS, sequences, streaming_model

FIRST = """<ir_version: 8, opset_import: ["": 17]> g
    (float[N,3,H,W] image, float[N,2] pose) => (float[N,3,H,W] small, float[N,2] moved, float[N] x)
    { small = Relu (image)  moved = Neg (pose)  x = ReduceSum <keepdims = 0> (pose, one) }"""
NEXT = """<ir_version: 8, opset_import: ["": 17]> g
    (float[N,3,8,8] features, float[N,2] moved, float[N,3,8,8] image) => (float[N,3,8,8] y)
    { s = Add (features, image)  y = Relu (s) }"""
N = 5


def saved(text, name):
    model = onnx.parser.parse_model(text)
    if "one" in text:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    onnx.save(model, name)
    return name


@pytest.fixture
def arrays(folder):
    rng = np.random.default_rng(0)
    saved(FIRST, "first.onnx"), saved(NEXT, "next.onnx")
    shapes = {"image": (N, 3, 8, 8), "pose": (N, 2)}
    found = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez("raw.npz", **found)
    return found


def through(done, *options):
    return done("data", "--through", "first.onnx", "--calib", "raw.npz", *options)


def test_inputs_take_outputs_by_name_by_what_fits_and_what_the_first_model_took(done, arrays):
    assert "5 samples" in through(done, "--model", "next.onnx", "-o", "calib").out
    files = sorted(Path("calib").iterdir())
    assert len(files) == N
    for i, file in enumerate(files):
        sample = dict(np.load(file))
        expected = {"features": np.maximum(arrays["image"], 0), "moved": -arrays["pose"],
                    "image": arrays["image"]}  # fmt: skip
        assert sample.keys() == expected.keys()
        assert all((x == expected[name][i : i + 1]).all() for name, x in sample.items())
    through(done, "--model", "next.onnx", "-o", "calib.npz")
    source = api.open_model("next.onnx")
    pair = [api.data(source, [name]) for name in ("calib", "calib.npz")]
    assert pair[0].digest() == pair[1].digest()


def test_without_a_next_model_outputs_keep_their_names_or_have_those_of_map(done, arrays):
    through(done, "-o", "all.npz")
    assert set(np.load("all.npz").files) == {"small", "moved", "x"}
    through(done, "--map", "small=input", "-o", "one.npy")
    assert (np.load("one.npy") == np.maximum(arrays["image"], 0)).all()


def test_images_go_through(done, arrays):
    from PIL import Image

    saved("""<ir_version: 8, opset_import: ["": 17]> g
        (float[N,3,16,16] image) => (float[N,3,16,16] features) { features = Neg (image) }""",
          "first.onnx")  # fmt: skip
    Path("frames").mkdir()
    for i in range(3):
        Image.new("RGB", (20, 10), (i * 80, 0, 0)).save(f"frames/{i}.png")
    done("data", "--through", "first.onnx", "--calib", "frames", "--preprocess", "yolo", "-o",
         "out.npy")  # fmt: skip
    assert np.load("out.npy").shape == (3, 3, 16, 16)


def test_a_model_that_remembers_comes_behind_or_in_front(done, folder):
    onnx.save(streaming_model(), "streaming.onnx")
    saved("""<ir_version: 8, opset_import: ["": 17]> g
        (float[1,8,4] raw) => (float[1,8,4] x) { x = Neg (raw) }""", "first.onnx")  # fmt: skip
    xs = sequences(2, 4)
    for i, x in enumerate(xs):
        Path(f"raw/{i}").mkdir(parents=True)
        np.save(f"raw/{i}/raw.npy", -x)
    done("data", "--through", "first.onnx", "--calib", "raw", "-o", "calib.npz")
    assert np.load("calib.npz")["reset"].tolist() == [1, 0, 0, 0] * 2
    done("data", "--through", "streaming.onnx", "--calib", "calib.npz", *OPTIONS, "-o", "last.npz")
    session, (x, _) = ort.InferenceSession("streaming.onnx"), xs
    state = {"cache": np.zeros((1, 8, 2), np.float32), "h": np.zeros((1, 32, 4), np.float32)}
    for k in range(4):
        y, *wrote = session.run(None, {"x": x[k : k + 1], **state})
        np.testing.assert_allclose(np.load("last.npz")["y"][k], y[0], rtol=0, atol=1e-6)
        state = dict(zip(state, wrote, strict=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--map", "small"), "--map 'small' is not OUT=IN"),
        (("--map", "none=features"), "no output 'none'; it has 'small', 'moved', 'x'"),
        (("--map", "small=none"), "the next model has no input 'none'; it has 'features'"),
        (("--map", "small=image", "--map", "moved=moved"), "and no other output fits; say which"),
        (
            ("--map", "moved=features"),
            "'moved' is float32 (?, 2), and input 'features' of the next",
        ),
        (("--pick", "2"), "--through writes all samples: leave out --pick"),
        (("-o", "out.txt"), "'out.txt' names no form of data"),
        (("-o", "out.npy"), "'out.npy' holds one array, and the samples have 3"),
    ],
)
def test_what_cannot_go_through_is_a_line(onnxq, arrays, options, said):
    out = () if "-o" in options else ("-o", "out")
    ran = onnxq("data", "--through", "first.onnx", "--calib", "raw.npz", "--model", "next.onnx",
                *options, *out)  # fmt: skip
    assert ran.code == 2
    assert said in ran.err
    assert not any(Path.cwd().glob("*out*"))
    assert not any(Path.cwd().glob(".*"))


def test_samples_of_other_shapes_need_a_folder(onnxq, done, arrays):
    for i in range(2):
        Path("raw").mkdir(exist_ok=True)
        image = np.zeros((1, 3, 8 + i, 8), np.float32)
        np.savez(f"raw/{i}.npz", image=image, pose=np.ones((1, 2), np.float32))
    args = ("data", "--through", "first.onnx", "--calib", "raw", "-o")
    ran = onnxq(*args, "out.npz")
    assert (ran.code, Path("out.npz").exists()) == (2, False)
    assert "'small' is float32 (1, 3, 9, 8) in sample 1 and float32 (1, 3, 8, 8)" in ran.err
    done(*args, "out")
    assert [np.load(f"out/{i:06}.npz")["small"].shape[2] for i in range(2)] == [8, 9]


@pytest.mark.parametrize("out", ["folder", "out.npz"])
def test_memory_does_not_grow_with_the_samples(folder, out):
    saved(
        """<ir_version: 8, opset_import: ["": 17]> g
        (float[N,3,64,64] image) => (float[N,3,64,64] y) { y = Neg (image) }""",
        "first.onnx",
    )
    np.save("raw.npy", np.zeros((200, 3, 64, 64), np.float32))  # 9.8 MB
    tracemalloc.start()
    try:
        assert api.data_through("first.onnx", ["raw.npy"], out) == 200
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()
