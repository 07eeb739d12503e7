"""`onnxq plot`: from saved files to plots, and what it refuses."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from onnxq_cli.main import cli

from onnxq.calib.histogram import histogram_of
from onnxq.calib.stats import Stats

PLOTS = ("histogram", "sensitivity", "pareto")


@pytest.fixture
def stats(folder, rng):
    found = Stats("0" * 64, {"image": histogram_of(rng.normal(size=1000))}, 1)
    found.save("stats.npz")
    return Path("stats.npz")


def subcommand(name):
    context = click.Context(cli)
    plot = cli.get_command(context, "plot")
    return plot.get_command(context, name)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plots_help_fits_80_columns_and_says_what_every_option_does(done, name):
    lines = done("plot", name, "--help").out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert all(o.help for o in subcommand(name).params if isinstance(o, click.Option))


def test_the_examples_run_on_what_the_other_commands_write(done, classifier, images):
    pytest.importorskip("matplotlib")
    pytest.importorskip("highspy")
    done("calibrate", classifier, "--calib", images, "--save-stats", "stats.npz", "-o",
         "ranges.json")  # fmt: skip
    done("sensitivity", classifier, "--calib", images, "--samples", 4, "-o", "ranking.csv",
         "-o", "ranking.json")  # fmt: skip
    done("search", classifier, "--calib", images, "--min-sqnr", 30, "--points", 1, "--trials", 1,
         "--pareto", "result.json", "-o", "plan.yaml")  # fmt: skip
    for name in PLOTS:
        words = shlex.split(subcommand(name).epilog.removeprefix("Example: onnxq "))
        assert done(*words).out == f"written: {words[-1]}\n"
        assert Path(words[-1]).stat().st_size > 4000
    done("plot", "sensitivity", "ranking.json", "--title", "Mine", "--width", 3.5, "-o", "r.svg")
    done("plot", "histogram", "stats.npz", "image", "--ranges", "ranges.json", "-o", "h.svg")
    text = Path("h.svg").read_text()
    amax = json.loads(Path("ranges.json").read_text())["tensors"]["image"]["amax"]
    assert f"ranges.json: amax {amax:.4g}" in text
    assert "Mine" in Path("r.svg").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("histogram", "stats.npz", "imago", "-o", "h.svg"), "the nearest names are 'image'"),
        (("histogram", "stats.npz", "image", "-o", "h.gif"), "choose .png, .svg, .pdf"),
        (("histogram", "stats.npz", "image", "-o", "h.svg", "--width", 0), "from 3 to 40"),
        (("histogram", "stats.npz", "image", "-o", "h.svg", "--method", "mean"), "unknown method"),
        (("histogram", "stats.npz", "image", "-o", "h.svg", "--method", "entropy", "--dtype",
          "fp8"), "not fp8; choose mse or max"),
        (("sensitivity", "stats.npz", "-o", "h.svg"), "is not a ranking that can be read"),
        (("pareto", "stats.npz", "-o", "h.svg"), "is not a search result that can be read"),
        (("pareto", "nothing.json", "-o", "h.svg"), "nothing.json"),
        (("histogram", "h.svg", "image", "-o", "h.svg"), "would be overwritten"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_one_line(refused, stats, options, said):
    pytest.importorskip("matplotlib")
    shutil.copy(stats, "h.svg")
    assert said in refused("plot", *options)


def test_without_matplotlib_the_extra_is_named(refused, stats, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = refused("plot", "histogram", stats, "image", "-o", "h.svg")
    assert 'pip install "onnxq[plot]"' in message


def test_the_statistics_of_another_model_and_their_ranges_do_not_mix(
    refused, stats, done, classifier, images
):
    pytest.importorskip("matplotlib")
    done("calibrate", classifier, "--calib", images, "-o", "ranges.json")
    said = refused("plot", "histogram", stats, "image", "--ranges", "ranges.json", "-o", "h.svg")
    assert "the ranges were observed on model" in said


def test_values_that_are_not_numbers_are_refused(refused, folder):
    pytest.importorskip("matplotlib")
    Stats("0" * 64, {"x": histogram_of([1.0, np.nan])}, 1).save("stats.npz")
    assert "infinite or NaN" in refused("plot", "histogram", "stats.npz", "x", "-o", "h.svg")
