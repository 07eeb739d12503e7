"""`onnxq search` and `onnxq recipe` on the fixtures: what they measure is what quantize gives."""

import csv
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("highspy")


@pytest.fixture
def search(done, classifier, images):
    """The JSON of a search that must succeed."""
    return lambda *options: json.loads(
        done("search", classifier, "--calib", images, "-o", "plan.yaml", "--json", *options).out
    )


@pytest.fixture
def search_refused(refused, classifier, images):
    return lambda *options: refused("search", classifier, "--calib", images, *options)


def chosen_of(found):
    return found["trials"][found["chosen"]]


@pytest.mark.parametrize("options", [(), ("--recover", "none"), ("--choices", "int8,fp16")])
def test_quantizing_by_the_plan_gives_the_measured_sqnr(search, done, classifier, images, options):
    found = search("--min-sqnr", 45, "--points", 2, *options)
    chosen = chosen_of(found)
    assert chosen["score"] >= 45
    assert chosen["float"]
    same = ["--high-precision", "fp16"] if "int8,fp16" in options else list(options)
    done("quantize", classifier, "--calib", images, "--plan", "plan.yaml", "-o", "q.onnx", *same)
    manifest = json.loads(Path("q.onnx.manifest.json").read_text())
    again = manifest["agreement"]["outputs"]["logits"]["sqnr_db"]
    # ONNX Runtime's threads may add up in another order; the manifest rounds to 0.001
    assert again == pytest.approx(chosen["score"], abs=0.02)
    assert again == pytest.approx(found["outputs_sqnr_db"]["logits"], abs=0.02)


def test_most_weights_at_4_bits_within_an_accuracy(search, done, classifier, images):
    choices = ("--choices", "int4,int8,fp16", "--weight-method", "mse")
    found = search("--min-sqnr", 32, "--cost", "size", "--points", 3, "--pareto", "p.csv", *choices)
    chosen = chosen_of(found)
    shares = chosen["shares"]
    assert found["choices"] == ["int8", "int4"]  # wide weights first
    assert sum(share["weights"] for share in shares.values()) == pytest.approx(1)
    assert sum(share["macs"] for share in shares.values()) == pytest.approx(1)
    holding = [t for t in found["trials"] if t["holds"]]
    assert 0 < shares["int4"]["weights"] < 1
    assert chosen["cost"] == min(t["cost"] for t in holding)
    # half a byte, a byte or two for each weight, of two
    sizes = {"int4": 0.25, "int8": 0.5, "float": 1.0}
    size = sum(sizes[choice] * share["weights"] for choice, share in shares.items())
    assert chosen["cost"] == pytest.approx(size)
    with open("p.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["int4:weights"]) for r in rows] == [
        t["shares"].get("int4", {"weights": 0})["weights"] for t in found["trials"]
    ]
    done("quantize", classifier, "--calib", images, "--plan", "plan.yaml", "-o", "q.onnx",
         "--weight-method", "mse", "--high-precision", "fp16")  # fmt: skip
    manifest = json.loads(Path("q.onnx.manifest.json").read_text())
    again = manifest["agreement"]["outputs"]["logits"]["sqnr_db"]
    assert again == pytest.approx(chosen["score"], abs=0.02)  # as above


def test_the_table_names_the_share_of_each_choice(done, classifier, images):
    ran = done("search", classifier, "--calib", images, "--choices", "int4,int8,w4a16,float",
               "--min-sqnr", 25, "--cost", "size", "--points", 2, "-o", "plan.yaml")  # fmt: skip
    head = next(line for line in ran.out.splitlines() if line.startswith("plan"))
    assert all(f"{choice} %" in head for choice in ("int8", "int4", "w4a16"))
    assert max(map(len, ran.out.partition("now:")[0].splitlines())) <= 80


def test_a_given_plan_leaves_only_one_way_to_quantize(done, search_refused, classifier):
    done("plan", classifier, "-o", "given.yaml")
    options = ("--min-sqnr", 20, "--plan", "given.yaml", "--choices", "int4,int8,float")
    assert "--plan says how each node is quantized" in search_refused(*options)


def test_a_given_plan_of_types_that_need_a_later_opset_can_be_searched(done, classifier, images):
    done("plan", classifier, "--scheme", "fp8", "-o", "given.yaml")
    for command, out in (("search", "plan.yaml"), ("recipe", "folder")):
        more = ("--points", 2, "--trials", 1) if command == "search" else ("--top", "0,1")
        done(command, classifier, "--calib", images, "--plan", "given.yaml", "--min-sqnr", 10,
             "-o", out, *more)  # fmt: skip
    assert "fp8 per-tensor" in Path("plan.yaml").read_text()


def test_the_chosen_plan_is_the_cheapest_measured_one_that_holds(search):
    found = search("--min-sqnr", 45, "--points", 3)
    holding = [t["cost"] for t in found["trials"] if t["holds"]]
    assert chosen_of(found)["cost"] == min(holding)
    assert all((float(t["score"]) >= 45) == t["holds"] for t in found["trials"])
    costs = [t["cost"] for t in found["trials"]]
    assert costs == sorted(costs)


def test_within_a_cost_the_best_measured_plan_is_chosen(search):
    found = search("--max-cost", 0.5)
    chosen = chosen_of(found)
    assert chosen["cost"] <= 0.5
    assert chosen["score"] == max(t["score"] for t in found["trials"] if t["cost"] <= 0.5)


@pytest.mark.parametrize("cost", ["bytes", "size", "roofline:orin", "ort"])
def test_every_cost_finds_a_plan(search, cost):
    assert chosen_of(search("--min-sqnr", 30, "--cost", cost, "--points", 2))["score"] >= 30


def test_a_drop_of_labelled_accuracy_is_measured_on_the_labelled_data(search, fixtures):
    data = np.load(fixtures / "classifier" / "eval.npz")
    np.save("images.npy", data["x"])
    np.save("labels.npy", data["y"])
    found = search("--max-drop", "2%", "--metric", "top1", "--labels", "labels.npy",
                   "--eval", "images.npy", "--points", 2)  # fmt: skip
    chosen = chosen_of(found)
    assert found["samples"] == len(data["y"])
    assert chosen["score"] >= 0.98 * found["float_score"]


def test_no_budget_that_can_be_met_is_exit_code_1_with_the_nearest(onnxq, classifier, images):
    for budget, said in ((("--min-sqnr", 150), "the nearest has cost"),
                         (("--max-cost", 0.1), "the nearest has cost 0.25")):  # fmt: skip
        ran = onnxq(
            "search",
            classifier,
            "--calib",
            images,
            "-o",
            "plan.yaml",
            "--points",
            1,
            "--trials",
            2,
            *budget,
        )
        assert ran.code == 1
        assert said in ran.err
        assert len(ran.err.splitlines()) == 1
        assert not Path("plan.yaml").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "no budget; give --max-drop 0.5%, --min-sqnr 20 or --max-cost 0.6"),
        (("--max-drop", "1%", "--min-sqnr", 20), "--max-drop and --min-sqnr contradict"),
        (
            ("--min-sqnr", 20, "--choices", "int8,int3"),
            "unknown choice 'int3'; choose of int8, int4",
        ),
        (("--min-sqnr", 20, "--choices", "w16a16,float"), "cannot run choice 'w16a16'; choose of"),
        (("--min-sqnr", 20, "--choices", "fp16,float"), "quantizes nothing; add one of int8, int4"),
        (("--min-sqnr", 20, "--choices", "int8,float", "--scheme", "fp8"), "contradict each other"),
        (("--min-sqnr", 20, "--choices", "fp8,float", "--cost", "roofline:A100"), "has no fp8"),
        (("--min-sqnr", 20, "--cost", "roofline:H200"), "unknown device 'H200'; choose one of"),
        (("--min-sqnr", 20, "--cost", "engine"), "--cost profile.json"),
        (("--min-sqnr", 20, "--metric", "accuracy"), "contradict"),
        (("--max-drop", "1%", "--metric", "accuracy"), "unknown metric 'accuracy'"),
        (("--max-drop", "1%", "--metric", "top1"), "needs labels"),
        (("--max-drop", "1%", "--metric", "nowhere:f"), "cannot be imported"),
        (("--min-sqnr", 20, "--output", "q"), "no output 'q'"),
        (("--min-sqnr", 20, "--pareto", "table.txt"), "cannot write the table as 'table.txt'"),
        (("--min-sqnr", 20, "--check-samples", 0), "holds out nothing to measure plans on"),
        (("--min-sqnr", 20, "--method", "auto"), "method 'auto'"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(search_refused, options, said):
    assert said in search_refused(*options)


def test_labels_that_do_not_fit_are_refused(search_refused):
    np.save("labels.npy", np.zeros(3, np.int64))
    message = search_refused("--max-drop", "1%", "--metric", "top1", "--labels", "labels.npy")
    assert "holds 3 labels" in message


def test_a_metric_that_returns_nan_is_refused(search_refused, folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    Path("broken_metric.py").write_text("def f(outputs):\n    return float('nan')\n")
    assert "returned nan" in search_refused("--max-drop", "1%", "--metric", "broken_metric:f")


def test_without_a_solver_the_extra_is_named(search_refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "highspy", None)
    assert 'pip install "onnxq[search]"' in search_refused("--min-sqnr", 20)


def test_what_was_measured_is_written_in_every_form(search):
    names = ["p.csv", "p.json", "p.md"]
    found = search(
        "--min-sqnr", 45, "--points", 2, *(word for n in names for word in ("--pareto", n))
    )
    with open("p.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["cost"]) for r in rows] == [t["cost"] for t in found["trials"]]
    assert sum(int(r["chosen"]) for r in rows) == 1
    assert json.loads(Path("p.json").read_text()) == found
    assert "| chosen |" in Path("p.md").read_text()


def test_cost_against_score_is_drawn(search):
    pytest.importorskip("matplotlib")
    search("--min-sqnr", 45, "--points", 2, "--trials", 2, "--pareto", "p.svg")
    assert Path("p.svg").read_text().startswith("<?xml")


def test_a_recipe_leaves_everything_in_one_folder(done, classifier, images):
    ran = done("recipe", classifier, "--calib", images, "--worst", "0,2,1", "--min-sqnr", 20,
               "-o", "made")  # fmt: skip
    found = json.loads(Path("made/recipe.json").read_text())
    assert [s["count"] for s in found["steps"]] == [0, 1, 2]
    assert found["chosen"] == 0  # the least that is good enough
    assert "K = 0" in ran.out
    names = {p.name for p in Path("made").iterdir()}
    assert {"classifier.int8.onnx", "plan.yaml", "config.yaml", "recipe.csv", "ranking.csv",
            "classifier.int8.onnx.manifest.json"} <= names  # fmt: skip
    done("quantize", classifier, "--calib", images, "--config", "made/config.yaml",
         "--plan", "made/plan.yaml", "-o", "again.onnx")  # fmt: skip
    made, again = (onnx.load(path) for path in ("made/classifier.int8.onnx", "again.onnx"))
    assert again.graph == made.graph  # their metadata names the options


def test_a_recipe_takes_the_best_without_a_bound_and_says_so_if_it_is_unmet(
    onnxq, classifier, images
):
    arguments = ("recipe", classifier, "--calib", images, "--worst", "0,1,2")
    assert onnxq(*arguments, "-o", "best").code == 0
    steps = json.loads(Path("best/recipe.json").read_text())
    scores = {s["count"]: s["trial"]["score"] for s in steps["steps"]}
    assert scores[steps["chosen"]] == max(scores.values())
    ran = onnxq(*arguments, "--min-sqnr", 120, "-o", "unmet")
    assert ran.code == 1
    assert "no K keeps to a SQNR of at least 120 dB" in ran.err
    assert json.loads(Path("unmet/recipe.json").read_text())["chosen"] == steps["chosen"]


def test_a_recipe_that_fails_leaves_no_folder(refused, classifier, images):
    arguments = ("recipe", classifier, "--calib", images)
    assert "give numbers of nodes" in refused(*arguments, "--worst", "0,99", "-o", "made")
    Path("there").mkdir()
    assert "is there and no recipe made it" in refused(*arguments, "-o", "there")
    assert not Path("made").exists()


def test_the_line_to_go_on_with_can_be_run(done, classifier, images):
    ran = done("search", classifier, "--calib", images, "--min-sqnr", 30, "-o", "plan.yaml",
               "--choices", "int8,fp16", "--skip", "op:Add", "--recover", "none")  # fmt: skip
    words = shlex.split(ran.out.rpartition("now: onnxq ")[2].splitlines()[0])
    assert words[-2:] == ["--plan", "plan.yaml"]
    done(*words, "-o", "q.onnx")
    config = json.loads(Path("q.onnx.manifest.json").read_text())["config"]
    assert (config["recover"], config["high_precision"]) == ("none", "fp16")


def test_a_recipe_needs_no_solver(done, classifier, images, monkeypatch):
    for name in ("highspy",):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    done("recipe", classifier, "--calib", images, "--worst", "0,1", "-o", "made")
