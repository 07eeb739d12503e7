"""`search --cost PROFILE.json` and `engine --float`: a device that was profiled once decides."""

import json

import pytest
from made_device import MadeDevice

from onnxq.cost.shapes import usual_shapes
from onnxq.cost.timing import NOTHING
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import prepare
from onnxq.pipeline.steps import plan as planned
from onnxq.plan import Plan
from onnxq.search.result import Result

pytest.importorskip("highspy")
# one on which INT8 pays for a fixture, and one that takes longest to start kernels
FAST = MadeDevice(rates={"fp16": 2e7, "int8": 6e7}, launch=1e-4, noise=0.0)
STARTS = MadeDevice(launch=0.05, noise=0.0)


@pytest.fixture
def engine(classifier, folder):
    """`engine(device, "int8")`: the files of an engine of the classifier, layers and profile."""
    source = prepare(classifier)
    graph, shapes = source.graph, usual_shapes(source.graph)

    def made(device, kind):
        plan = planned(source, Config()) if kind == "int8" else NOTHING
        found = []
        for name, document in zip(("layers", "times"), device.engine(graph, shapes, plan),
                                  strict=True):  # fmt: skip
            found.append(folder / f"{kind}.{name}.json")
            found[-1].write_text(json.dumps(document), "utf-8")
        return found

    return made


def test_a_search_takes_the_times_of_one_profile(done, engine, classifier, images, folder):
    layers, times = engine(FAST, "half")
    said = done("search", classifier, "--calib", images, "--cost", times, "--layers", layers,
                "--points", 2, "--trials", 1, "--min-sqnr", 40, "-o", "plan.yaml",
                "--pareto", "r.json").out  # fmt: skip
    assert "INT8 pays throughout: predicted" in said
    assert "error of the fit: median" in said
    found = Result.load("r.json")
    pays = found.learnt.pays
    profile = json.loads(times.read_text())
    assert pays.float_ms == pytest.approx(sum(x.get("averageMs", 0) for x in profile))
    cheapest = min(trial.cost for trial in found.trials)
    assert cheapest == pytest.approx(pays.quantized_ms / pays.float_ms, abs=0.02)
    written = json.loads((folder / "r.json").read_text())
    assert json.loads(found.to_json())["learnt"] == written["learnt"]


def test_leave_it_float_is_an_answer(onnxq, engine, classifier, images):
    _, times = engine(STARTS, "half")
    alike = {x["name"]: 1.0 for x in json.loads(times.read_text()) if "name" in x}
    times.write_text(json.dumps(alike))  # whatever a kernel does, it takes as long
    ran = onnxq("search", classifier, "--calib", images, "--cost", times, "--points", 2,
                "--min-sqnr", 30, "-o", "plan.yaml")  # fmt: skip
    assert ran.code == 1
    assert "INT8 does not pay: predicted" in ran.err
    assert "leave it fp32" in ran.err


def test_one_engine_predicts_whether_int8_pays_and_quantize_takes_the_plan(
    done, onnxq, engine, classifier, images
):
    layers, times = engine(FAST, "half")
    asked = ("--profile", times, "--float", classifier, "--write-plan", "plan.yaml")
    said = done("engine", layers, *asked).out
    assert "INT8 pays throughout: predicted" in said
    assert all(len(line) <= 80 for line in said.partition("Blocks")[2].splitlines())
    done("quantize", classifier, "--calib", images, "--plan", "plan.yaml", "-o", "q.onnx")
    layers, times = engine(STARTS, "half")
    ran = onnxq("engine", layers, "--profile", times, "--float", classifier,
                "--write-plan", "none.yaml", "--json")  # fmt: skip
    assert ran.code == 1
    assert json.loads(ran.out)["pays"]["worth"] is False


def test_two_engines_say_it_by_what_was_measured(done, engine, classifier, folder):
    # INT8 of few channels is slow: the first blocks stay float
    device = MadeDevice(rates={"fp16": 2e7, "int8": 6e7}, launch=1e-4, noise=0.0,
                        narrow={"fp16": 1.0, "int8": 60.0})  # fmt: skip
    half, int8 = engine(device, "half"), engine(device, "int8")
    document = json.loads(
        done("engine", half[0], int8[0], "--profile", half[1], "--profile", int8[1], "--float",
             classifier, "--write-plan", "plan.yaml", "--json").out
    )["pays"]  # fmt: skip
    pays = document["pays"]
    assert not pays["predicted"]
    assert 0 < sum(block["pays"] for block in pays["blocks"]) < len(pays["blocks"])
    kept = Plan.load("plan.yaml")
    floats = {n for block in pays["blocks"] if not block["pays"] for n in block["nodes"]}
    assert kept.nodes
    assert not floats & set(kept.nodes)
    assert "does not pay on the device" in kept.skipped.values()
    graph = prepare(classifier).graph
    total = device.total(graph, usual_shapes(graph), kept)
    assert total == pytest.approx(pays["best_ms"], rel=0.05)
    assert total < min(pays["float_ms"], pays["quantized_ms"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is not JSON of TensorRT (it is empty)"),
        ('{"a": ', "is not JSON of TensorRT"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "has no times of layers"),
        ('{"Layers": []}', "lists layers; give it as LAYERS"),
        ('{"/conv1/Conv": -1}', "is not the time of a layer"),
        ('{"another": 1.0}', "no time of a node of the model"),
        ('{"/conv1/Conv": 1.0}', "only 1 kernel of the model"),
    ],
)
def test_a_profile_that_is_none_is_refused_in_a_line(
    refused, classifier, images, folder, text, line
):
    (folder / "p.json").write_text(text)
    args = ("--calib", images, "--cost", "p.json", "--min-sqnr", 30, "-o", "plan.yaml")
    assert line in refused("search", classifier, *args)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--cost", "times.txt"), "unknown cost 'times.txt'"),
        (("--cost", "nowhere.json"), "'nowhere.json' is not a file"),
        (("--layers", "l.json"), "--layers goes with the times of a device"),
        (("--rates", "int8=2"), "--rates goes with the times of a device"),
        (("--cost", "p.json", "--rates", "int8=quick"), "write TYPE=NUMBER"),
    ],
)
def test_options_of_a_profile_go_together(refused, classifier, images, options, line):
    args = ("--calib", images, "--min-sqnr", 30, "-o", "plan.yaml")
    assert line in refused("search", classifier, *args, *options)


def test_an_engine_of_another_model_or_without_times_does_not_say_what_pays(
    refused, engine, classifier, fixtures
):
    layers, times = engine(FAST, "half")
    other = fixtures / "yolo_like" / "yolo_like.onnx"
    assert "no time of a node of the model" in refused(
        "engine", layers, "--profile", times, "--float", other
    )
    assert "a --profile for each" in refused("engine", layers, "--float", classifier)
    assert "give the model without Q/DQ by --float" in refused(
        "engine", layers, "--profile", times, "--write-plan", "p.yaml"
    )
