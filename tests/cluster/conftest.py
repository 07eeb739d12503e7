"""The classifier, prepared and calibrated in this process: what workers are held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from onnxq import api
from onnxq.calib.data import Dataset
from onnxq.calib.holdout import held_out
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.search import Result, Samples, SearchOptions, budget_of, given, search

CLASSIFIER = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"
CONFIG = Config(samples=24)
BUDGET = SearchOptions(budget_of(None, 30.0, None), trials=4, points=3)


@dataclass(frozen=True)
class Subject:
    """A model with everything that the verbs take."""

    source: api.Source
    plan: Plan
    dataset: Dataset
    stats: Stats
    ranges: Ranges

    def calibrated(self, executor=None, **more) -> Stats:
        return api.calibrate(
            self.source, self.plan, self.dataset, CONFIG, executor=executor, **more
        )

    def ranked(self, options=None, executor=None, **more) -> str:
        few = self.dataset.subset(8)
        said = (self.source, self.plan, self.ranges, few, options, CONFIG)
        return api.sensitivity(*said, executor=executor, **more).to_json()

    def searched(self, executor=None, **more) -> Result:
        rest, held = held_out(self.dataset, 8)
        palette, samples = given(self.source.graph, self.plan), Samples(rest, held, held)
        stats = api.calibrate(self.source, self.plan, rest, CONFIG)
        return search(
            self.source, palette, stats, samples, BUDGET, CONFIG, executor=executor, **more
        )


def subject_of(model: Path, calib: Path) -> Subject:
    """A subject from files."""
    source = api.prepare(model, CONFIG)
    plan = api.plan(source, CONFIG)
    dataset = api.data(source, [str(calib)], CONFIG)
    stats = api.calibrate(source, plan, dataset, CONFIG)
    return Subject(source, plan, dataset, stats, api.read(source, plan, stats, "mse"))


@pytest.fixture(scope="session")
def subject() -> Subject:
    return subject_of(CLASSIFIER / "classifier.onnx", CLASSIFIER / "calib.npy")


@pytest.fixture
def copied(tmp_path, subject) -> Subject:
    """The same from files of its own, to be spoiled."""
    for name in ("classifier.onnx", "calib.npy"):
        (tmp_path / name).write_bytes((CLASSIFIER / name).read_bytes())
    return subject_of(tmp_path / "classifier.onnx", tmp_path / "calib.npy")


@pytest.fixture
def bytes_of(tmp_path):
    """The bytes of statistics as they are saved."""

    def saved(stats: Stats) -> bytes:
        stats.save(tmp_path / "saved.npz")
        return (tmp_path / "saved.npz").read_bytes()

    return saved
