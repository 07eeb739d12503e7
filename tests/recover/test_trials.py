"""What is chosen on some samples is judged by others, and by what it brings there."""

from __future__ import annotations

import numpy as np

from onnxq.judge.verdict import sqnr
from onnxq.recover.draft import Draft
from onnxq.recover.groups import factors, find_groups, scaled
from onnxq.recover.trials import NOTHING, judge, tabulate

BODY = """(float[N,6,16] x) => (float[N,6,16] y) {
    a = LayerNormalization<axis = -1>(x, g, b)  [m1] c = MatMul(a, w1)  d = Relu(c)
    [m2] y = MatMul(d, w2)}"""


def network(rng):
    made = {name: rng.standard_normal((16, 16)).astype(np.float32) for name in ("w1", "w2")}
    made |= {"g": np.ones(16, np.float32), "b": np.zeros(16, np.float32)}
    made["g"][3] = 50
    made["w1"][3] /= 50
    return made


def rows(samples, seed=0):
    return np.random.default_rng(seed).standard_normal((samples, 6, 16)).astype(np.float32)


def test_the_samples_held_out_take_no_part_in_the_search(planned, dataset, bench_of, rng):
    graph, plan = planned(BODY, network(rng))
    bench = bench_of(graph, plan, dataset(rows(20)))
    held = {bench.chosen.sample(i)["x"].tobytes() for i in bench.held}
    inner = bench.searching
    assert len(inner.chosen) == len(bench.fit)
    assert not held & {s["x"].tobytes() for s in inner.chosen}


def test_ranges_put_together_are_those_of_the_graph_itself(planned, dataset, bench_of, rng):
    graph, plan = planned(BODY, network(rng))
    bench = bench_of(graph, plan, dataset(rows(12)))
    groups = find_groups(graph, plan)
    assert [g.tensor for g in groups] == ["a", "d"]
    ones = np.ones(16)
    scales = {
        (g, alpha): factors(np.exp(rng.uniform(-2, 2, 16)), ones, alpha)
        for g in groups
        for alpha in (0.5, 0.9)
    }
    table = tabulate(bench, graph, scales)
    choice = {groups[0]: 0.5, groups[1]: 0.9}
    changed = table.graph_of(choice)
    afresh = bench.ranges(changed).amax
    for tensor, strength in (("a", 0.5), ("d", 0.9)):
        # the other group's scale moves a value by float32 rounding, and with it at most a bin
        np.testing.assert_allclose(table.ranges[strength][tensor].amax, afresh[tensor], rtol=0.01)
    score = sqnr(bench.errors(Draft(changed, bench.ranges(changed))))["y"]
    assert abs(table.run(choice).score - score) < 0.2  # dB: ranges a bin apart


def test_a_gain_on_other_samples_stands_and_harm_does_not(planned, dataset, bench_of, rng):
    graph, plan = planned(BODY, network(rng))
    bench = bench_of(graph, plan, dataset(rows(16)))
    group = find_groups(graph, plan)[0]
    outlier = np.where(np.arange(16) == 3, 50.0, 1.0)
    verdict = judge(bench, graph, scaled(graph, {group: outlier}))
    assert verdict.against is None
    assert verdict.after["y"] > verdict.before["y"]
    worse = judge(bench, graph, scaled(graph, {group: 1 / outlier}))
    assert worse.against is not None
    assert worse.after == worse.before


def test_no_change_brings_nothing(planned, dataset, bench_of, rng):
    graph, plan = planned(BODY, network(rng))
    verdict = judge(bench_of(graph, plan, dataset(rows(8))), graph, graph)
    assert verdict.against == NOTHING
    assert verdict.after == verdict.before
