"""`name:min:opt:max`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from onnxq.errors import OnnxqError
from onnxq.model.input_shapes import (
    SEEN,
    InputShape,
    parse_shapes,
    profile_of,
    remembered,
    shapes_seen,
)


def test_min_opt_and_max_are_read() -> None:
    (row,) = parse_shapes(["x:1x3:2x3:4x3"])
    assert row == InputShape("x", (1, 3), (2, 3), (4, 3))


def test_one_shape_stands_for_all_three() -> None:
    assert parse_shapes(["x:1,3"]) == (InputShape("x", (1, 3), (1, 3), (1, 3)),)


@pytest.mark.parametrize("text", ["input:0:1x3", "input:0:1x3:1x3:2x3"])
def test_a_name_may_hold_a_colon(text: str) -> None:
    assert parse_shapes([text])[0].name == "input:0"


@pytest.mark.parametrize("text", ["x", "x:", ":1x3", "x:1x", "x:axb", "x:1x-1", "x:1x3:2x3"])
def test_anything_else_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(OnnxqError, match="images:1x3x640x640"):
        parse_shapes([text])


@pytest.mark.parametrize("text", ["x:2x3:1x3:4x3", "x:1x3:8x3:4x3", "x:1x3:1x3x1:1x3"])
def test_shapes_out_of_order_or_of_different_rank_are_an_error(text: str) -> None:
    with pytest.raises(OnnxqError, match="min <= opt <= max"):
        parse_shapes([text])


def test_a_name_given_twice_is_an_error() -> None:
    with pytest.raises(OnnxqError, match="two shapes for input 'x'"):
        parse_shapes(["x:1", "x:2"])


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[object], Path]:
    def write(shapes: object) -> Path:
        path = tmp_path / "m.json"
        path.write_text(json.dumps({"data": {"shapes": shapes}}))
        return path

    return write


ROW = {"min": [1, 3], "opt": [2, 3], "max": [8, 3]}


def model(*inputs: str) -> onnx.ModelProto:
    """A model with these inputs; its nodes do not matter."""
    declared = ", ".join(inputs)
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({declared}) => (float[1] y) {{ }}'
    )


def test_shapes_that_a_manifest_tells_are_remembered_and_parse(manifest: Callable) -> None:
    path = manifest({"x": ROW, "mask": ROW})
    (text,) = remembered(model("float[N,3] x", "float[1,3] fixed"), path)
    assert parse_shapes([text]) == (InputShape("x", (1, 3), (2, 3), (8, 3)),)
    both = remembered(model("float[N,3] x", "float[N,M] mask"), path)
    assert both == (text, "mask:1x3:2x3:8x3")


def test_the_metadata_of_a_model_go_before_the_manifest(manifest: Callable) -> None:
    other = {"min": [2, 3], "opt": [2, 3], "max": [2, 3]}
    known = model("float[N,3] x")
    onnx.helper.set_model_props(known, {SEEN: json.dumps({"x": other})})
    assert remembered(known, manifest({"x": ROW})) == ("x:2x3:2x3:2x3",)


@pytest.mark.parametrize(
    "shapes",
    [None, [], {}, {"y": ROW}, {"x": ROW | {"max": [8, 4]}}, {"x": ROW | {"max": [1, 3]}},
     {"x": ROW | {"opt": 3}}, {"x": ROW | {"opt": ["a", 3]}}, {"x": "1x3"},
     {"x": ROW | {"min": []}}],
)  # fmt: skip
def test_a_manifest_of_another_model_is_not_believed(shapes: object, manifest: Callable) -> None:
    assert remembered(model("float[N,3] x"), manifest(shapes)) == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\xff"])
def test_neither_is_a_file_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(text, "latin1")
    assert remembered(model("float[N,3] x"), tmp_path / "m.json") == ()
    assert remembered(model("float[N,3] x"), tmp_path / "none.json") == ()


def test_an_input_whose_rank_varies_has_no_shapes() -> None:
    assert [
        str(row) for row in shapes_seen([{"x": (1,), "y": (2,)}, {"x": (1, 1), "y": (3,)}])
    ] == ["y:2:2:3"]


def test_opt_is_a_shape_that_a_sample_has_in_all_inputs() -> None:
    # lengths by themselves: 1 and 4 are the most frequent, and no mask of 5 is
    samples = [{"x": (1, s, 64), "past": (1, p, 64), "mask": (1, s, s + p)}
               for s, p in ((1, 3), (1, 4), (2, 4), (3, 4), (2, 1), (2, 4))]  # fmt: skip
    x, past, mask = parse_shapes(profile_of(samples))
    assert (x.opt[1], past.opt[1], mask.opt[2]) == (2, 4, 6)
    assert (x.min, x.max) == ((1, 1, 64), (1, 3, 64))
    assert (mask.min, mask.max) == ((1, 1, 3), (1, 3, 7))


def test_a_scalar_has_no_profile() -> None:
    assert profile_of([{"x": (1, 5), "rate": ()}]) == ("x:1x5:1x5:1x5",)
    assert profile_of([{"rate": ()}]) == ()
