"""Budgets: what they hold, and what is refused."""

import math

import pytest

from onnxq.errors import PlanError
from onnxq.search import SearchOptions, budget_of


def test_a_drop_in_per_cent_is_of_the_float_score_and_a_number_of_its_units():
    relative, absolute = budget_of(max_drop="0.5%"), budget_of(max_drop="0.5")
    assert relative.holds(79.6, 80.0, 1.0, higher=True)
    assert not relative.holds(79.59, 80.0, 1.0, higher=True)
    assert absolute.holds(79.5, 80.0, 1.0, higher=True)
    assert not absolute.holds(79.49, 80.0, 1.0, higher=True)


def test_where_lower_is_better_a_rise_is_the_drop():
    assert budget_of(max_drop="0.1").holds(1.05, 1.0, 1.0, higher=False)
    assert not budget_of(max_drop="0.1").holds(1.2, 1.0, 1.0, higher=False)


def test_sqnr_and_cost_bound_score_and_cost():
    assert budget_of(min_sqnr=20).holds(20.0, math.inf, 1.0, higher=True)
    assert not budget_of(min_sqnr=20).holds(19.9, math.inf, 0.1, higher=True)
    assert budget_of(max_cost=0.6).holds(-5.0, math.inf, 0.6, higher=True)
    assert not budget_of(max_cost=0.6).holds(50.0, math.inf, 0.61, higher=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no budget; give --max-drop"),
        ({"max_drop": "1%", "max_cost": 0.5}, "--max-drop and --max-cost contradict"),
        ({"max_drop": "some"}, "--max-drop 'some'"),
        ({"max_drop": "-1%"}, "--max-drop '-1%'"),
        ({"max_drop": "nan"}, "--max-drop 'nan'"),
        ({"min_sqnr": math.nan}, "--min-sqnr nan"),
        ({"max_cost": 1.5}, "--max-cost 1.5"),
        ({"max_cost": 0.0}, "--max-cost 0.0"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(given, said):
    with pytest.raises(PlanError) as e:
        budget_of(**given)
    assert said in str(e.value)


def test_a_drop_without_a_metric_is_of_the_cosine():
    assert SearchOptions(budget_of(max_drop="0.5%")).measured_by == "cosine"
    assert SearchOptions(budget_of(min_sqnr=20)).measured_by == "sqnr"


@pytest.mark.parametrize("metric", ["sqnr", "mse", "kl"])
def test_a_drop_of_a_metric_without_a_float_score_is_refused(metric):
    with pytest.raises(PlanError, match="no score of the float model"):
        SearchOptions(budget_of(max_drop="0.5%"), metric=metric)


def test_a_least_sqnr_of_another_metric_is_refused():
    with pytest.raises(PlanError, match="contradict each other"):
        SearchOptions(budget_of(min_sqnr=20), metric="top1")
