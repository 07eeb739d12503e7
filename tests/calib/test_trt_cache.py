"""Calibration caches of TensorRT: read to the bit, mapped by values, refused by the line."""

import struct
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxq
from onnxq.calib.ranges import Range, Ranges
from onnxq.calib.trt_cache import HEADER, load_cache, mapped, save_cache
from onnxq.errors import DataError
from onnxq.model.graph import from_proto

CLASSIFIER = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 4, 8, 8] x) => (float[1, 256] y)
{
  a = Relu(x)
  b = Identity(a)
  c = Transpose<perm = [0, 2, 3, 1]>(b)
  y = Flatten(c)
}
"""


def ranges(**amax):
    return Ranges("m", {name: Range(a, "max", 0.0, 0.0) for name, a in amax.items()})


def test_a_cache_written_and_read_back_is_equal_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    scales = np.exp(rng.normal(0, 8, 200)).astype(np.float32)
    given = ranges(**{f"t{i}": 127 * float(s) for i, s in enumerate(scales)}, zero=0.0)
    save_cache(given, tmp_path / "c")
    found = load_cache(tmp_path / "c")
    assert found.header == HEADER
    assert found.amax == {n: a for n, a in given.amax.items() if a}
    save_cache(ranges(**found.amax), tmp_path / "d")
    assert (tmp_path / "d").read_bytes() == (tmp_path / "c").read_bytes()


def test_lines_are_tensorrts_own(tmp_path):
    save_cache(ranges(images=1.0), tmp_path / "c")
    bits = struct.pack(">f", 1 / 127).hex()
    assert (tmp_path / "c").read_text("utf-8") == f"{HEADER}\nimages: {bits}\n"


def test_names_with_colons_and_spaces_and_decimal_ranges_are_read(tmp_path):
    shuffle = "(Unnamed Layer* 3) [Shuffle]_output"
    lines = ["TRT-7103-EntropyCalibration2", "x:0: 3f800000", f"{shuffle}: 3f000000"]
    (tmp_path / "c").write_text("\n".join(lines), "utf-8")
    assert load_cache(tmp_path / "c").amax == {"x:0": 127.0, shuffle: 63.5}
    (tmp_path / "d").write_text("x 2.5\n/a/Relu_output_0 0.125\n", "utf-8")
    assert load_cache(tmp_path / "d").amax == {"x": 2.5, "/a/Relu_output_0": 0.125}


@pytest.mark.parametrize("there", ["a", "b", "c", "y"])
def test_a_tensor_is_found_by_any_name_of_its_values(tmp_path, there):
    (tmp_path / "c").write_text(f"{HEADER}\n{there}: 3f800000\nother: 3f800000\n", "utf-8")
    graph = from_proto(onnx.parser.parse_model(MODEL))
    found = mapped(load_cache(tmp_path / "c"), graph, ["a", "c", "x"], "m")
    assert found.ranges.amax == {"a": 127.0, "c": 127.0}
    assert found.missing == ("x",)
    assert found.unused == ("other",)
    assert found.names == {n: there for n in ("a", "c") if n != there}


def test_a_name_spelled_otherwise_is_found_where_only_one_fits(tmp_path):
    graph = from_proto(onnx.parser.parse_model(MODEL))
    (tmp_path / "c").write_text("model/0.x:0 2\nmodel_1_x_0 3\nmodel.1/x.0 4\n", "utf-8")
    cache = load_cache(tmp_path / "c")
    found = mapped(cache, graph, ["/model.0/x_0", "/model.1/x_0"], "m")
    assert found.names == {"/model.0/x_0": "model/0.x:0"}
    assert found.missing == ("/model.1/x_0",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no tensor"),
        (f"{HEADER}\n", "holds no tensor"),
        (f"{HEADER}\nx: 3f80\n", "line 2 is not an entry"),
        (f"{HEADER}\nx: 7f800000\n", "line 2 is not an entry"),
        (f"{HEADER}\nx: bf800000\n", "line 2 is not an entry"),
        (f"{HEADER}\nx: 7fc00000\n", "line 2 is not an entry"),
        ("x 1\nx 2\n", "stands there twice"),
        ("what is this", "line 1 is not an entry"),
    ],
    ids=["empty", "header", "short", "infinite", "negative", "nan", "twice", "prose"],
)
def test_what_is_no_cache_is_refused_by_its_line(tmp_path, text, said):
    (tmp_path / "c").write_text(text, "utf-8")
    with pytest.raises(DataError, match=said):
        load_cache(tmp_path / "c")


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "calibration.cache"
    for text in (f"{HEADER}\na: 3c010a14\n", "a: 3c010a14\n"):
        path.write_text(text, "utf-8-sig")
        assert list(load_cache(path).amax) == ["a"]


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "c").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(DataError, match="it is not text"):
        load_cache(tmp_path / "c")
    with pytest.raises(DataError, match="no calibration cache at"):
        load_cache(tmp_path / "none")


def test_ranges_that_nobody_counted_survive_their_file(tmp_path):
    nan = float("nan")
    Ranges("m", {"x": Range(1.0, "cache('c')", nan, nan)}).save(tmp_path / "r.json")
    found = Ranges.load(tmp_path / "r.json")["x"]
    assert found.amax == 1
    assert np.isnan([found.sat_ratio, found.expected_error]).all()


def test_what_a_cache_lacks_is_counted_from_data(tmp_path):
    model, calib = CLASSIFIER / "classifier.onnx", CLASSIFIER / "calib.npy"
    onnxq.write_cache(model, calib, tmp_path / "c", onnxq.Config(samples=4))
    whole = onnxq.ranges_from_cache(model, tmp_path / "c")
    assert not whole.missing
    lines = (tmp_path / "c").read_text("utf-8").splitlines()
    lost = next(iter(whole.ranges.tensors))
    kept = [line for line in lines if not line.startswith(f"{lost}: ")]
    (tmp_path / "d").write_text("\n".join(kept), "utf-8")
    assert onnxq.ranges_from_cache(model, tmp_path / "d").missing == [lost]
    mended = onnxq.ranges_from_cache(model, tmp_path / "d", calib, onnxq.Config(samples=4))
    assert mended.missing == []
    # a scale is float32, a range of the data is not
    assert mended.ranges.amax == pytest.approx(whole.ranges.amax, rel=1e-6)
