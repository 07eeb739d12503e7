"""Files of an engine in other forms than trtexec's own: read alike, or refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from layer_files import FP16, INT8, layer, port, residual_block, written

import onnxq
from onnxq.errors import OnnxqError
from onnxq.layers.model import check_same
from onnxq.layers.reading import Model, read

LAYERS, PROFILE = residual_block(FP16)
DATE = "[12/01/2026-10:00:00] "
LOG = f"&&&& RUNNING TensorRT.trtexec\n{DATE}[I] === Model ===\n"
END = f'\n{DATE}[I] [TRT] done {{1}}\n{DATE}[W] "x"\n&&&& PASSED TensorRT.trtexec\n'


def lines(entries: list[Any]) -> str:
    return "".join(f"{json.dumps(entry)}\n" for entry in entries)


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


FORMS = {
    "as it is": (json.dumps(LAYERS), json.dumps(PROFILE)),
    "indented, in a log": (LOG + json.dumps(LAYERS, indent=1) + END,
                           LOG + json.dumps(PROFILE, indent=2) + END),
    "in a line of a log": (f"{LOG}{DATE}[I] {json.dumps(LAYERS)}{END}",
                           f"{LOG}{DATE}[I] {json.dumps(PROFILE)}{END}"),
    "an entry a line": (lines(LAYERS["Layers"]), lines(PROFILE)),
    "joined": ("".join(map(json.dumps, LAYERS["Layers"])), ",\n".join(map(json.dumps, PROFILE))),
    "both in one": (json.dumps(LAYERS) + "\n" + json.dumps(PROFILE),) * 2,
    "twice the same": (2 * json.dumps(LAYERS), 2 * (json.dumps(PROFILE) + "\n")),
    "medians": (json.dumps(LAYERS), json.dumps(
        [{"name": t["name"], "medianMs": t["averageMs"]} for t in PROFILE[1:]])),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_alike_in_every_form(tmp_path: Path, form: str) -> None:
    layers, profile = FORMS[form]
    plain = onnxq.read_layers(written(tmp_path, "a", LAYERS), written(tmp_path, "b", PROFILE))
    found = onnxq.read_layers(put(tmp_path, "l", layers), put(tmp_path, "p", profile))
    assert found.as_dict() == plain.as_dict()
    assert found.total_ms == pytest.approx(0.25 * 15)


@pytest.mark.parametrize(
    ("layers", "profile", "said"),
    [
        (LOG + json.dumps(LAYERS, indent=1)[:-9], "", "l' is not JSON of TensorRT"),
        (lines(LAYERS["Layers"])[:-9], "", "l' is not JSON of TensorRT"),
        (LOG, "", "l' is not JSON of TensorRT"),
        (json.dumps(LAYERS) + json.dumps(residual_block(INT8)[0]), "", "2 engines or profiles"),
        (json.dumps(LAYERS), json.dumps([{"name": "a", "percentage": 3.0}]), "no milliseconds"),
        (lines(PROFILE), "", "is a profile; give it as --profile"),
    ],
    ids=["cut in a log", "cut line", "a log", "two engines", "shares", "times as layers"],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, layers: str, profile: str, said: str
) -> None:
    times = put(tmp_path, "p", profile) if profile else None
    with pytest.raises(OnnxqError, match=said) as refused:
        onnxq.read_layers(put(tmp_path, "l", layers), times)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("timed", [True, False], ids=["as many times", "fewer times"])
def test_layers_without_a_name_are_counted_and_never_guessed(tmp_path: Path, timed: bool) -> None:
    layers = [layer("Conv_1", reads=(port("x", INT8),), writes=(port("y", INT8),), weights="Int8"),
              *({**layer("", reads=(port("y", INT8),), weights="Int8"), "Name": n}
                for n in ("", None)),
              {k: v for k, v in layer("", reads=(port("y", FP16),)).items() if k != "Name"},
              "Conv_2"]  # fmt: skip
    times: list[dict[str, Any]] = [{"name": "Conv_1", "averageMs": 9.0},
                                   {"name": "", "averageMs": 1.0}]  # fmt: skip
    times += [{"averageMs": 2.0}, {"name": None, "averageMs": 3.0}] if timed else []
    found = onnxq.read_layers(written(tmp_path, "l", layers), written(tmp_path, "p", times))
    assert set(found.nodes) == {"Conv_1", "Conv_2"}
    assert len(found.hidden) == 3
    assert found.coverage()["precisions"]["int8"] == 3
    hidden = math.fsum(t.ms or 0 for t in found.hidden)
    assert (hidden, found.lost_ms) == ((6.0, 0.0) if timed else (0.0, 1.0))


def test_a_name_that_is_cut_short_names_no_node(tmp_path: Path) -> None:
    ops = {"/model.0/conv/Conv": "Conv", "/model.0/act/Mul": "Mul", "/model.1/conv/Conv": "Conv"}
    known = Model(ops, {})
    names = ("/model.0/conv/Conv + PWN(/model.0/act/M", "/model.1/conv/Conv")
    path = written(tmp_path, "l", [layer(name) for name in names])
    info = onnxq.read_layers(path).info
    check_same(info, known, path)
    found = read(info, None, known)
    assert set(found.nodes) == {"/model.1/conv/Conv"}
    assert [t.layer.name for t in found.hidden] == [names[0]]


INSPECTED = """[I] Loading bytes from m.engine
[I] ==== TensorRT Engine ====
    ---- 3 Layer(s) Per Profile ----
    - Profile: 0
        Layer 0    | QuantizeLinear_0 [Op: Reformat]
            {x [dtype=float32, shape=(1, 3, 8, 8), Format: kLINEAR]}
             -> {xq [dtype=int8, shape=(1, 3, 8, 8)]}
        Layer 1    | conv1.weight + QuantizeLinear_7 + Conv_1 || Conv_2 [Op: CaskConvolution]
            {xq [dtype=int8, shape=(1, 3, 8, 8)],
             s [dtype=float16, shape=(1, 64, 8, 8)]}
             -> {y [dtype=int8, shape=(1, 64, 8, 8)]}
        Layer 2    | {ForeignNode[/a/Conv.../z/Add]} [Op: Myelin]
            {y [dtype=int8, shape=(1, 64, 8, 8)]}
             -> {z [dtype=float16, shape=(1, 64)]}
    - Profile: 1
        Layer 0    | QuantizeLinear_0 [profile 1] [Op: Reformat]
"""


def test_what_polygraphy_prints_of_an_engine_is_read(tmp_path: Path) -> None:
    found = onnxq.read_layers(put(tmp_path, "inspected.txt", INSPECTED))
    assert [t.layer.kind for t in found.timed] == ["Reformat", "CaskConvolution", "Myelin"]
    assert found.nodes["Conv_2"].precision == "int8"
    assert found.timed[1].layer.inputs[1].shape == (1, 64, 8, 8)
    assert found.timed[1].layer.inputs[1].type == "fp16"
    assert [copy.kind for copy in found.copies] == ["quantize"]
    assert len(found.hidden) == 1
