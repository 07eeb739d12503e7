"""What is kept is what no output argues against, whoever asks."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.judge.verdict import hopeless, worst_fall
from onnxq.recover.keeping import LOWERS, fewer, halves, keep


def errors_without(bad):
    """Errors that grow with each item of `bad` and shrink with any other."""

    def errors_of(items):
        noise = 2.0 ** sum(1 if item in bad else -1 for item in items)
        return {"y": np.array([[100.0, noise]] * 4)}

    return errors_of


def kept(batches, bad, divided=halves, trials=None):
    errors = errors_without(bad)
    return keep(batches, errors([]), errors, worst_fall, divided, trials)


def test_all_is_kept_in_one_trial_where_nothing_hurts():
    found = kept([[1, 2, 3]], set(), trials=1)
    assert found.items == (1, 2, 3)
    assert found.refused == ()
    assert found.after["y"][0, 1] == found.before["y"][0, 1] / 8


def test_a_batch_that_hurts_is_halved_until_what_hurts_stands_alone():
    found = kept([[1, 2, 3, 4]], {3, 4})
    assert found.items == (1, 2)
    assert found.reasons(lambda item: [f"n{item}"]) == {
        "n3": f"{LOWERS}: 'y'",
        "n4": f"{LOWERS}: 'y'",
    }


def test_later_batches_are_tried_before_the_halves_of_an_earlier_one():
    found = kept([[1, 2], [3]], {1}, trials=3)
    assert found.items == (3,)  # 1 and 2 together, 3, then 1 alone
    assert kept([[1, 2], [3]], {1}).items == (3, 2)


def test_what_does_not_reach_the_output_that_refuses_is_kept_at_last():
    def errors_of(items):
        boxes = 2.0 ** -len(items)
        scores = 2.0 if set(items) & {1, 2, 3} else 1.0  # 4 and 5 are of the box head
        return {"boxes": np.array([[100.0, boxes]] * 4), "scores": np.array([[9.0, scores]] * 4)}

    def worse(before, after):
        return worst_fall(before, after, {"scores"})

    divided = fewer(lambda item, output: output == "boxes" or item <= 3)
    found = keep([[1, 4, 2, 5, 3]], errors_of([]), errors_of, worse, divided)
    assert found.items == (4, 5)
    assert len(found.reasons(lambda item: [str(item)])) == 3


def test_what_is_kept_is_not_tried_again():
    tried = []

    def errors_of(items):
        tried.append(list(items))
        return {"y": np.array([[100.0, 2.0 ** (-len(items) if 3 not in items else 1)]] * 4)}

    found = keep([[1, 2, 3]], errors_of([]), errors_of, worst_fall, lambda b, _: [b[:1], b[:2]])
    assert found.items == (1, 2)
    assert tried[-1] == [1, 2]


@pytest.mark.parametrize("batches", [[], [[]]])
def test_of_nothing_nothing_is_kept(batches):
    found = kept(batches, set())
    assert (found.items, found.after) == ((), found.before)


def test_scores_that_do_not_move_argue_against_nothing():
    same, boxes = np.array([[9.0, 1.0]] * 4), [np.array([[9.0, n]] * 4) for n in (1.0, 0.5)]
    before, after = ({"scores": same, "boxes": b} for b in boxes)
    assert worst_fall(before, after, {"scores"}) is None
    assert hopeless(before, after, {"scores"}) is None


def rows(noise):
    return {"s": np.array([[100.0, n] for n in noise])}


def test_few_judges_give_up_on_a_score_that_gains_nothing_on_the_average():
    before, after = rows([1, 1, 1, 1]), rows([0.5, 2, 0.5, 2])
    assert hopeless(before, after, {"s"}) == "s"
    assert hopeless(before, after) is None  # others need no certain gain
    assert hopeless(before, rows([0.5, 0.9, 0.5, 1.1]), {"s"}) is None


def test_few_judges_give_up_where_an_output_falls_for_certain():
    before = rows([1, 1, 1, 1])
    assert hopeless(before, rows([2, 2.1, 1.9, 2])) == "s"
    assert hopeless(before, rows([0.5, 4, 0.9, 3])) is None
    assert hopeless(rows([1]), rows([2])) is None  # of one sample nothing is certain


@pytest.mark.parametrize("scores", [(), ("s",)])
def test_what_is_hopeless_argues_against_a_change_by_the_same_samples_too(rng, scores):
    for _ in range(200):
        before, after = (rows(np.exp(rng.normal(0, 1, 5))) for _ in range(2))
        if hopeless(before, after, scores) is not None:
            assert worst_fall(before, after, scores) == "s"
