from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnxq import api
from onnxq.pipeline.config import Config
from onnxq.sensitivity import Options
from onnxq.sensitivity.ranking import Ranking
from onnxq.targets.options import PlanOptions

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


@pytest.fixture(scope="session")
def subject_of() -> Callable[..., tuple[Any, ...]]:
    """`subject_of(model, data, samples)`: (source, plan, ranges, dataset) of a fixture."""

    def make(
        model: str, data: str, samples: int, placement: PlanOptions | None = None
    ) -> tuple[Any, ...]:
        config = Config(placement=placement or PlanOptions(), samples=samples)
        source = api.prepare(FIXTURES / model, config)
        plan = api.plan(source, config)
        dataset = api.data(source, [str(FIXTURES / data)], config)
        ranges = api.read(source, plan, api.calibrate(source, plan, dataset, config), "mse")
        return source, plan, ranges, dataset

    return make


@pytest.fixture(scope="module")
def measured(subject: tuple[Any, ...]) -> Callable[..., Ranking]:
    """`measured(**options)`: the ranking of the module's `subject`; the same is measured once."""
    return functools.cache(lambda **options: api.sensitivity(*subject, Options(**options)))
