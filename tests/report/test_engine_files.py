"""What TensorRT ran each node in, in `inspect` and on the page of `report`; GPUs on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from layer_files import FP16, INT8, layer, port, written
from onnxq_cli.main import run

import onnxq
from onnxq.layers.model import model_of
from onnxq.model import graph as graphs

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantized classifier; the layers of an engine of it, whose first Conv runs in FP16 behind
    a conversion, and their times."""
    folder = tmp_path_factory.mktemp("engine")
    onnxq.quantize(FIXTURE / "classifier.onnx", FIXTURE / "calib.npy", samples=2, recover="none",
                   check_samples=1).save(folder / "q.onnx")  # fmt: skip
    first, *others = model_of(graphs.load(folder / "q.onnx")).meant
    said = f"[ONNX Layer: {first}]"
    layers = [
        layer("turn", "Reformat", (port("x", INT8),), (port("h", FP16),), Origin="QDQ"),
        layer("half", reads=(port("h", FP16),), writes=(port("y", FP16),), weights="Half",
              Metadata=said),
        *(layer(n, reads=(port("y", INT8),), writes=(port(n, INT8),), weights="Int8",
                Metadata=f"[ONNX Layer: {n}]") for n in others),
    ]  # fmt: skip
    written(folder, "layers.json", {"Layers": layers, "Bindings": []})
    times = [{"name": x["Name"], "averageMs": 0.5} for x in layers]
    written(folder, "times.json", [{"count": 10}, *times])
    (folder / "first").write_text(first)
    return folder


def files(folder: Path) -> list[str]:
    return ["--layers", str(folder / "layers.json"), "--profile", str(folder / "times.json")]


def test_inspect_says_what_each_node_ran_in(folder: Path, capsys: Any) -> None:
    first = (folder / "first").read_text()
    assert run(["inspect", str(folder / "q.onnx"), *files(folder), "--json"]) == 0
    rows = {n["name"]: n["runs"] for n in json.loads(capsys.readouterr().out)["nodes"]}
    ran = rows[first]
    assert (ran["precision"], ran["meant"], ran["ms"]) == ("fp16", "int8", 0.5)
    assert (ran["conversions"], ran["conversion_ms"]) == (1, 0.5)
    total = sum(r["ms"] or 0 for r in rows.values() if r) + ran["conversion_ms"]
    assert ran["share"] == pytest.approx(0.5 / total)
    assert run(["inspect", str(folder / "q.onnx"), f"name:{first}", *files(folder)]) == 0
    shown = capsys.readouterr().out
    assert "fp16, 0.5000 ms" in shown
    assert "1 conversion, 0.5000 ms" in shown


def test_without_layers_nothing_is_said_of_an_engine(folder: Path, capsys: Any) -> None:
    assert run(["inspect", str(folder / "q.onnx"), "--json"]) == 0
    assert not any("runs" in n for n in json.loads(capsys.readouterr().out)["nodes"])


def page(folder: Path, *options: str) -> dict[str, Any]:
    assert run(["report", str(folder / "q.onnx"), *options, "-o", str(folder / "p.html")]) == 0
    text = (folder / "p.html").read_text("utf-8")
    shown: dict[str, Any] = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    return shown


def test_a_page_shows_the_layers_as_it_shows_an_engine(folder: Path) -> None:
    shown = page(folder, *files(folder))
    first = (folder / "first").read_text()
    (node,) = (n for n in shown["nodes"] if n["name"] == first)
    assert (node["engine"], node["meant"], node["ms"]) == ("fp16", "int8", 0.5)
    (ran,) = (n for n in shown["engine"]["nodes"] if n["name"] == first)
    assert ran["missed"]
    assert shown["engine"]["verdict"]["covered"] == shown["engine"]["verdict"]["meant"] - 1
    assert {k["ms"] for k in shown["engine"]["listing"]} == {0.5}


def test_the_comparison_on_a_page_says_what_each_tensor_ran_in(folder: Path, capsys: Any) -> None:
    models = (str(FIXTURE / "classifier.onnx"), str(folder / "q.onnx"))
    asked = ["compare", *models, "--calib", str(FIXTURE / "calib.npy"), "--samples", "1",
             "--per-tensor", "--json"]  # fmt: skip
    assert run([*asked, *files(folder), "--report", str(folder / "p.html")]) == 0
    told = json.loads(capsys.readouterr().out)["tensors"]
    text = (folder / "p.html").read_text("utf-8")
    made = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])["comparison"]  # type: ignore[index]
    ran = {t["name"]: (t["by"], t["ran"], t["ms"]) for t in made["tensors"] if "ran" in t}
    said = {n: (r["node"], r["precision"], r["ms"]) for n, t in told.items() if (r := t["runs"])}
    assert ran == said
    assert ((folder / "first").read_text(), "fp16", 0.5) in ran.values()
    assert run(asked) == 0  # without layers, to be told of them later
    (folder / "compared.json").write_text(capsys.readouterr().out)
    shown = page(folder, *files(folder), "--comparison", str(folder / "compared.json"))
    assert shown["comparison"] == made


def test_a_page_tells_the_latency_before_and_after(folder: Path) -> None:
    (card,) = (c for c in page(folder, *files(folder))["summary"] if c["label"] == "latency")
    total = 0.5 * len(json.loads((folder / "layers.json").read_text())["Layers"])
    assert card["value"] == f"{total:.4g} ms"
    before = written(folder, "float.json", [{"count": 1}, {"name": "a", "averageMs": 2 * total}])
    shown = page(folder, *files(folder), "--float-profile", str(before))
    (card,) = (c for c in shown["summary"] if c["label"] == "latency")
    assert card["note"].startswith(f"2.00 x faster than float's {2 * total:.4g} ms")


def test_a_page_shows_every_gpu(folder: Path) -> None:
    cell = {"arch": "sm75", "device": "T4", "form": "as it is", "state": "refused", "why": "no FP8"}
    cell |= dict.fromkeys(("meant", "covered", "kernels", "moved"))
    made = written(folder, "fleet.json", {"model": "q.onnx", "ok": False, "cells": [cell]})
    shown = page(folder, "--fleet", str(made))
    assert (shown["fleet"]["ok"], shown["fleet"]["cells"]) == (False, [cell])


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("inspect", ["--profile", "times.json"], "give the layers too"),
        ("inspect", ["--layers", "times.json"], "times.json"),
        ("inspect", ["--layers", "other.json"], "no node of"),
        ("report", ["--layers", "layers.json", "--engine", "q.onnx"], "give one of them"),
        ("report", ["--fleet", "layers.json"], "'onnxq build --arch all --json'"),
        ("report", ["--layers", "cut.json"], "cut.json"),
        ("report", ["--float-profile", "times.json"], "--profile"),
    ],
    ids=[
        "no layers",
        "a profile",
        "another engine",
        "two engines",
        "no fleet",
        "cut short",
        "no times",
    ],
)
def test_files_of_another_kind_are_one_line(
    folder: Path, capsys: Any, monkeypatch: Any, command: str, options: list[str], said: str
) -> None:
    monkeypatch.chdir(folder)
    written(folder, "other.json", {"Layers": [layer("Conv_z")]})
    (folder / "cut.json").write_text((folder / "layers.json").read_text()[:200])
    assert run([command, "q.onnx", *options, *(["-o", "no.html"] * (command == "report"))]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (folder / "no.html").exists()
