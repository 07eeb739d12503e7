"""The tables of a search say in which sessions its plans were measured."""

import math
from dataclasses import replace

import pytest

from onnxq.cost.counted import Share
from onnxq.report import pareto, text
from onnxq.search.result import Result, Trial

SHARES = {"int8": Share(0.5, 0.5), "float": Share(0.5, 0.5)}
TRIAL = Trial({"a": "int8"}, (), 0.5, 0.5, SHARES, 0.1, 31.0, 0.5, {"y": 31.0}, True)
OTHER = replace(TRIAL, cost=0.8, trouble="no kernel for FP8")
SAID = "1 of 2 plans: a plain ONNX Runtime session cannot run this model (no kernel for FP8)"


@pytest.fixture
def result():
    return Result("0" * 64, "sqnr", True, math.inf, "SQNR of at least 30 dB", "ops", ("int8",), 8,
                  (TRIAL, OTHER), TRIAL, None, None)  # fmt: skip


def test_plans_that_a_plain_session_cannot_run_are_counted(result, capsys):
    text.show(pareto.render(result))
    assert SAID in " ".join(capsys.readouterr().out.split())
    assert SAID in pareto.markdown(result)
    text.show(pareto.render(replace(result, trials=(TRIAL,))))
    assert "plain" not in capsys.readouterr().out


def test_the_json_of_a_search_keeps_the_session_of_each_plan(result, tmp_path):
    pareto.save(result, tmp_path / "p.json")
    back = Result.load(tmp_path / "p.json")
    assert [t.trouble for t in back.trials] == ["", "no kernel for FP8"]
