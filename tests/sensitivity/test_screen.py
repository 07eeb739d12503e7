"""Every unit on a few samples, the worst on all: which, and that nothing else changes."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest

from onnxq import api
from onnxq.errors import PlanError
from onnxq.judge.metrics import Mse
from onnxq.pipeline.config import Config
from onnxq.sensitivity import Options as AllOptions
from onnxq.sensitivity.ranking import Row
from onnxq.sensitivity.readings import Judge, ranked
from onnxq.sensitivity.screen import confirm, screen_of

SAMPLES = 8
Options = partial(AllOptions, apart=False)  # of scores beside boxes nothing is screened


@pytest.mark.parametrize(
    ("options", "samples", "few"),
    [
        ({}, 32, range(0, 32, 4)),
        ({}, 8, range(0, 8, 4)),
        ({}, 6, range(0, 6, 4)),
        ({}, 4, range(4)),  # one sample would be left
        ({"screen": 1.0}, 32, range(32)),
        ({"screen": 0.6}, 32, range(32)),  # at least that share, evenly spaced
        ({"screen": 0.5}, 32, range(0, 32, 2)),
        ({"screen": 1 / 3}, 9, range(0, 9, 3)),
        ({"screen": 1e-320}, 9, range(9)),
        ({"metric": "top1"}, 32, range(32)),
        ({"metric": "module:function"}, 32, range(32)),
    ],
)
def test_the_first_samples_are_evenly_spaced(options, samples, few):
    assert screen_of(Options(**options), samples).few == few


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(PlanError, match="give a share of the samples"):
        Options(screen=share)


def confirmed(few, everything, **options):
    """Positions of the units that are confirmed, for damage on a few and on all samples."""
    damage = {True: dict(enumerate(everything)), False: dict(enumerate(few))}
    screen = screen_of(Options(**options), 32)
    found = confirm(
        screen,
        Options(**options),
        lambda s: {unit: damage[unit in s.confirmed][unit] for unit in damage[True]},
        lambda units: None,
    )
    return sorted(found.confirmed)


def test_at_most_the_worst_third_is_confirmed_at_first():
    falling = list(range(60, 0, -1))
    assert confirmed(falling, falling) == list(range(20))


def test_what_does_far_less_damage_than_the_tenth_is_not_confirmed():
    falling = [2.0**-k for k in range(60)]  # the eleventh does half of it, the twelfth a quarter
    assert confirmed(falling, falling) == list(range(11))


def test_of_few_units_ten_are_confirmed():
    falling = list(range(24, 0, -1))
    assert confirmed(falling, falling) == list(range(10))
    assert confirmed(falling[:7], falling[:7]) == list(range(7))


def test_what_is_to_be_listed_is_confirmed():
    falling = list(range(30, 0, -1))
    assert confirmed(falling, falling, top=14) == list(range(14))
    assert confirmed(falling, falling, curve=(0, 12)) == list(range(12))


def test_units_that_move_up_among_the_worst_are_confirmed_as_well():
    few = list(range(60, 0, -1))
    everything = [*few[:8], *[0.0] * 12, *few[20:]]  # of the worst twenty, twelve turn out harmless
    assert confirmed(few, everything) == list(range(22))


def test_rows_of_different_samples_tie_by_the_samples_of_both():
    noises = {"all": [2.0, 2.2, 3.0, 1.0], "few": [2.0, 2.05], "less": [1.8, 2.0]}
    judge, rows, readings = Judge(Mse()), [], []
    for name, noise in noises.items():
        sums = np.array([[n, 1.0, 1.0] for n in noise])
        reading = judge.read({"y": sums})
        if name == "all":
            reading = type(reading)(reading.score, reading.spread, judge.read({"y": sums[:2]}))
        rows.append(Row(0, False, name, "Conv", (name,), reading.score, {}, 0.0, {}, 0.0, 1, 1,
                        len(noise)))  # fmt: skip
        readings.append(reading)
    # over all samples `all` is uncertain by 0.4; over the first two, `less` is below it by 0.2 each
    assert [(row.name, row.rank) for row in ranked(rows, readings)] == [
        ("all", 1),
        ("few", 1),
        ("less", 3),
    ]


@pytest.fixture(scope="module")
def subject(subject_of):
    """(source, plan, ranges, dataset) with samples enough to screen on."""
    return subject_of("yolo_like/yolo_like.onnx", "yolo_like/calib.npy", SAMPLES)


@pytest.fixture(scope="module")
def measured(subject):
    """`measured(**options)`: the ranking of `subject` by its outputs as a whole."""
    return cache(lambda **options: api.sensitivity(*subject, Options(**options)))


def scores(ranking):
    """Node -> all that was measured of it."""
    return {row.name: (row.overall, row.outputs, row.parts) for row in ranking.rows}


class Few:
    """Some of the samples of a dataset."""

    def __init__(self, dataset, chosen):
        self.dataset, self.chosen = dataset, chosen

    def __len__(self):
        return len(self.chosen)

    def sample(self, i):
        return self.dataset.sample(self.chosen[i])


@pytest.mark.parametrize(
    "options", [{"split": True}, {"mode": "one-off"}], ids=["split", "one-off"]
)
def test_a_row_is_what_its_samples_alone_give(subject, measured, options):
    *model, dataset = subject
    ranking, everything = measured(**options), measured(**options, screen=1.0)
    few = api.sensitivity(*model, Few(dataset, range(0, SAMPLES, 4)), Options(**options))
    worst = {row.name for row in ranking.rows if row.samples == SAMPLES}
    assert {row.samples for row in ranking.rows} == {2, SAMPLES}
    assert worst >= {row.name for row in ranking.rows[:10]}
    for name, found in scores(ranking).items():
        assert found == scores(everything if name in worst else few)[name]
    assert ranking.quantized_score == everything.quantized_score


def test_scores_beside_boxes_are_scored_on_all_samples(subject):
    ranking = api.sensitivity(*subject, AllOptions(screen=0.25))
    assert {row.samples for row in ranking.rows} == {SAMPLES}
    assert all(set(row.outputs) == {"boxes", "scores"} for row in ranking.rows)


def test_the_worst_are_those_of_all_samples(measured):
    assert measured().worst(5) == measured(screen=1.0).worst(5)


@pytest.mark.parametrize("options", [{}, {"mode": "one-off"}], ids=["one-on", "one-off"])
def test_screening_finds_what_it_finds_with_whole_models(measured, options):
    fast, slow = measured(**options), measured(**options, whole=True)
    total = sum(abs(row.overall.damage) for row in slow.rows)
    found = {row.name: row for row in fast.rows}
    for row in slow.rows:
        assert found[row.name].samples == row.samples
        # the rounding of sums moves codes: see test_fast_equals_slow
        expected = pytest.approx(row.overall.damage, rel=1e-3, abs=1e-5 * total)
        assert found[row.name].overall.damage == expected


@pytest.mark.parametrize("max_memory", [1, 1 << 22])
def test_neither_chunks_nor_workers_matter(subject, max_memory):
    one, three = Config(workers=1), Config(workers=3)
    chunked = api.sensitivity(*subject, Options(max_memory=max_memory, curve=(2,)), three)
    assert chunked == api.sensitivity(*subject, Options(curve=(2,)), one)


class Stopped(Exception):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize(
    ("stage", "at", "max_memory"),
    [
        ("sensitivity", 5, 1 << 30),
        ("confirm", 1, 1 << 30),
        ("confirm", 8, 1 << 30),
        ("confirm", 40, 1),
        ("curve", 1, 1 << 30),
    ],
)
def test_stopped_in_any_stage_and_resumed_gives_the_same(
    subject, measured, tmp_path, stage, at, max_memory
):
    def progress(name, done, total):
        if (name, done) == (stage, at):
            raise Stopped

    options = {"curve": (0, 2), "max_memory": max_memory}
    straight = measured(**options)
    kept = Options(**options, resume=tmp_path / "state.json")
    with pytest.raises(Stopped):
        api.sensitivity(*subject, kept, progress=progress)
    assert api.sensitivity(*subject, kept).to_json() == straight.to_json()


def test_a_screened_run_is_completed_by_what_it_left_out(subject, measured, tmp_path):
    path = tmp_path / "state.json"
    api.sensitivity(*subject, Options(resume=path))
    complete = api.sensitivity(*subject, Options(resume=path, screen=1.0))
    assert complete == measured(screen=1.0)
    # and what is known of the others does not change what a screened ranking says
    again = api.sensitivity(*subject, Options(resume=path))
    assert again == measured()
