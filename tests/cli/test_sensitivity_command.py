"""`onnxq sensitivity`: what it writes, what `quantize` makes of it, what it refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODEL, CALIB = FIXTURES / "classifier" / "classifier.onnx", FIXTURES / "classifier" / "calib.npy"
CENTERPOINT = FIXTURES / "centerpoint"
RUN = (MODEL, "--calib", CALIB, "--samples", 6)


@pytest.fixture
def labels(folder):
    """A label for every calibration sample."""
    path = folder / "y.npy"
    np.save(path, np.arange(len(np.load(CALIB))) % 10)
    return path


def nodes(path):
    """The nodes of a CSV ranking, the worst first."""
    with open(path, newline="") as file:
        return [row["node"] for row in csv.DictReader(file)]


def test_a_ranking_is_printed_and_written_in_every_form(done, folder):
    ran = done("sensitivity", *RUN, "--top", 3, "-o", "r.csv", "-o", "r.json", "-o", "r.md",
               "--curve", "0,1,99")  # fmt: skip
    ranked = nodes("r.csv")
    document = json.loads(Path("r.json").read_text())
    assert [row["name"] for row in document["rows"]] == ranked
    assert [k for k, _ in document["curve"]] == [0, 1, len(ranked)]
    # everything float: what is left is the rounding of folded BatchNormalization in float32
    assert float(document["curve"][-1][1]) > 100
    assert "the worst 3 of" in " ".join(ran.out.split())
    assert Path("r.md").read_text().count("\n| /") >= len(ranked) - 1


def test_the_skip_list_leaves_exactly_those_nodes_float(done, folder):
    done("sensitivity", *RUN, "--top", 2, "--write-skip", "skip.txt", "-o", "r.csv")
    done("plan", MODEL, "--skip", "@skip.txt", "-o", "with.yaml")
    done("plan", MODEL, "-o", "without.yaml")
    from onnxq.plan import Plan

    left = set(Plan.load("without.yaml").nodes) - set(Plan.load("with.yaml").nodes)
    worst = set(nodes("r.csv")[:2])
    assert worst <= left
    # an Add whose Conv is float has no Q/DQ of its own to keep
    assert all("Add" in name for name in left - worst)


def test_top1_takes_labels_of_the_samples_that_are_used(done, labels):
    ran = done("sensitivity", *RUN, "--metric", "top1", "--labels", labels, "--json")
    found = json.loads(ran.out)
    assert (found["samples"], found["metric"]) == (6, "top1")
    assert found["float_score"] is not None


def test_a_function_of_the_outputs_is_a_metric(done, folder):
    Path("mine.py").write_text(
        "def largest(outputs):\n    return {'largest': max(o['logits'].max() for o in outputs)}\n"
    )
    ran = done("sensitivity", *RUN, "--metric", "mine:largest", "--direction", "lower", "--json")
    assert json.loads(ran.out)["higher_is_better"] is False


def test_the_scorer_of_a_fixture_is_a_metric(done, folder):
    Path("centerpoint.py").write_text(
        f"""
import sys
sys.path.insert(0, {str(CENTERPOINT)!r})
from pathlib import Path
import score as scorer

SCENES = scorer.load_eval()[:4]

def feeds():
    return scorer.canvases(Path({str(CENTERPOINT)!r}) / "voxel_encoder.onnx", SCENES)

def mean_average_precision(outputs):
    return scorer.score(list(outputs), SCENES)
"""
    )
    ran = done(
        "sensitivity", CENTERPOINT / "backbone_neck_head.onnx",
        "--calib", CENTERPOINT / "calib.npy", "--eval", "centerpoint:feeds",
        "--metric", "centerpoint:mean_average_precision", "--deconv", "per-tensor",
        "--granularity", "group", "--group", "deblocks", "--group", "pts_backbone", "--json",
    )  # fmt: skip
    found = json.loads(ran.out)
    assert found["samples"] == 4
    assert found["float_score"] > 50
    assert {row["name"] for row in found["rows"]} == {"deblocks", "pts_backbone"}


def test_groups_are_blocks_by_name(done):
    ran = done("sensitivity", *RUN, "--granularity", "group", "--json")
    rows = json.loads(ran.out)["rows"]
    assert len(rows) >= 4
    assert all(row["nodes"] for row in rows)


def test_one_off_and_split_and_node_scores_run(done):
    ran = done("sensitivity", *RUN, "--mode", "one-off", "--split", "--at", "node", "--json")
    rows = json.loads(ran.out)["rows"]
    assert any({"activation", "weight"} <= row["parts"].keys() for row in rows)


def test_the_worst_are_scored_on_all_samples_and_the_others_on_a_share(done, folder):
    run = (MODEL, "--calib", CALIB, "--samples", 8, "--top", 12, "-o", "r.csv")
    ran = done("sensitivity", *run, "--screen", 0.5)
    with open("r.csv", newline="") as file:
        samples = [int(row["samples"]) for row in csv.DictReader(file)]
    assert set(samples) == {4, 8}
    assert samples[:12] == [8] * 12
    assert f"for all but the worst {samples.count(8)} units 4 of them" in " ".join(ran.out.split())
    done("sensitivity", *run, "--screen", 1)
    with open("r.csv", newline="") as file:
        assert {row["samples"] for row in csv.DictReader(file)} == {"8"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "snr"], r"unknown metric 'snr'; choose sqnr, mse, cosine, kl, top1 or"),
        (["--metric", "none:score"], r"metric 'none:score' cannot be imported"),
        (["--metric", "json:absent"], r"metric 'json:absent' cannot be imported"),
        (["--metric", "top1"], r"metric 'top1' needs labels"),
        (["--metric", "top1", "--labels", "absent.npy"], r"absent\.npy"),
        (["--metric", "top1", "--labels", "short.npy"], r"'short\.npy' holds 3 labels"),
        (["--metric", "top1", "--labels", "float.npy"], r"labels are float64"),
        (["--metric", "sqnr", "--labels", "short.npy"], r"labels"),
        (["--metric", "nan:score"], r"metric 'nan:score' returned nan"),
        (["--metric", "nan:fail"], r"metric 'nan:fail' failed: KeyError"),
        (["--mode", "both"], r"'both' is not one of 'one-on', 'one-off'"),
        (["--granularity", "layer"], r"'layer' is not one of"),
        (["--group", "x"], r"the granularity is 'node'; choose 'group'"),
        (["--granularity", "group", "--group", "absent"], r"'absent' matches no node"),
        (["--output", "absent"], r"no output 'absent'; it has 'logits'"),
        (["--curve", "1,x"], r"'1,x' is not a list of numbers"),
        (["--curve", "-1"], r"numbers of nodes are not negative"),
        (["-o", "r.xls"], r"cannot write a ranking as 'r\.xls'"),
        (["--at", "node", "--metric", "top1"], r"looks at the model's outputs"),
        (["--max-memory", "0"], r"0 is not in the range"),
        (["--screen", "0"], r"0\.0 is not in the range 0<x<=1"),
    ],
)
def test_what_does_not_fit_is_one_line(refused, folder, arguments, message, capsys):
    import re

    np.save("short.npy", np.arange(3))
    np.save("float.npy", np.zeros(len(np.load(CALIB))))
    Path("nan.py").write_text(
        "def score(outputs):\n    return float('nan')\ndef fail(outputs):\n    return {}['x']\n"
    )
    sys.modules.pop("nan", None)
    sys.dont_write_bytecode = True
    assert re.search(message, refused("sensitivity", *RUN, *arguments))


def test_killed_half_way_and_resumed_writes_the_same_file(done, folder):
    model = CENTERPOINT / "backbone_neck_head.onnx"
    arguments = ["sensitivity", model, "--calib", CENTERPOINT / "calib.npy", "--curve", "0,3"]
    done(*arguments, "-o", "straight.json")
    command = [sys.executable, "-m", "onnxq_cli", *map(str, arguments),
               "--resume", "state.json", "-o", "resumed.json"]  # fmt: skip
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "cli")])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None and not Path("state.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done(*arguments, "--resume", "state.json", "-o", "resumed.json")
    assert Path("resumed.json").read_bytes() == Path("straight.json").read_bytes()
