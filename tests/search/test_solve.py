"""The integer program against brute force."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxq.search.solve import OTHERS, Link, cheapest, solve

pytest.importorskip("highspy")


def objective(damage, picked):
    scaled = damage / damage.max(axis=1).sum(axis=0).max()
    sums = scaled[np.arange(len(picked)), list(picked)]
    return sums.sum(axis=0).max() + OTHERS * sums.mean(axis=1).sum()


@settings(deadline=None)  # the first call imports highspy
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 3), st.integers(1, 2))
def test_no_other_choices_within_the_limit_do_less_damage(seed, nodes, choices, outputs):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.1, 1, (nodes, choices))
    damage = rng.uniform(0, 1, (nodes, choices, outputs))
    limit = float(rng.uniform(cost.min(axis=1).sum(), cost.max(axis=1).sum()))
    picked = solve(cost, damage, limit)

    def total(choice):
        return cost[np.arange(nodes), list(choice)].sum()

    within = [c for c in product(range(choices), repeat=nodes) if total(c) <= limit]
    best = min(objective(damage, c) for c in within)
    assert total(picked) <= limit + 1e-6  # the solver's own tolerance of a constraint
    assert objective(damage, picked) <= best + 1e-5  # that, and the gap it may stop at


def test_a_limit_below_the_cheapest_choices_has_no_solution():
    assert solve(np.array([[0.25, 1.0]]), np.zeros((1, 2, 1)), 0.2) is None


def test_the_cheapest_choices_are_within_a_limit_of_their_own_cost():
    cost = np.random.default_rng(0).uniform(0.1, 1, (50, 2))
    picked = solve(cost, np.ones((50, 2, 1)), float(cost.min(axis=1).sum()))
    assert picked == cost.argmin(axis=1).tolist()


def test_a_node_that_ruins_the_output_is_left_alone():
    cost = np.tile([0.25, 1.0], (3, 1))
    damage = np.zeros((3, 2, 1))
    damage[:, 0, 0] = [1e-3, np.inf, 1e-3]
    assert solve(cost, damage, 1.5) == [0, 1, 0]


def test_a_choice_of_infinite_cost_is_no_choice():
    cost = np.array([[0.1, np.inf, 1.0], [0.1, 0.05, np.inf]])
    damage = np.zeros((2, 3, 1))
    damage[:, 0, 0] = 1.0
    assert solve(cost, damage, 2.0) == [2, 1]
    assert solve(cost, damage, 0.5) == [0, 1]
    assert solve(cost, damage, 0.1) is None


def linked(cost, links, picked):
    """What choices cost with the tensors between nodes, of which the last choice is float."""
    last = cost.shape[1] - 1
    total = sum(cost[n, c] for n, c in enumerate(picked))
    for link in links:
        few = [picked[n] != last for n in link.readers]
        writes = link.writer is None or picked[link.writer] != last
        if link.able and all(few) and few and writes:
            total -= link.saved
        elif any(few):
            total += link.convert
    return total


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(2, 3))
def test_what_is_converted_between_nodes_counts(seed, nodes, choices):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.1, 1, (nodes, choices))
    links = [
        Link(
            writer=None if rng.random() < 0.3 else n,
            readers=tuple({int(r) for r in rng.integers(n + 1, nodes, 2)}),
            convert=float(rng.uniform(0, 0.5)),
            saved=float(rng.uniform(0, 0.3)),
            able=bool(rng.random() < 0.8),
        )
        for n in range(nodes - 1)
    ]
    every = list(product(range(choices), repeat=nodes))
    least = min(linked(cost, links, c) for c in every)
    assert cheapest(cost, links) == pytest.approx(least, abs=1e-5)
    damage = rng.uniform(0, 1, (nodes, choices, 1))
    limit = least + float(rng.uniform(0, 1))
    picked = solve(cost, damage, limit, links)
    assert linked(cost, links, picked) <= limit + 1e-5
    best = min(objective(damage, c) for c in every if linked(cost, links, c) <= limit)
    assert objective(damage, picked) <= best + 1e-5
