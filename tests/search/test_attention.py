"""A searched plan never leaves an attention float in part."""

import pytest

from onnxq.calib.holdout import held_out
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.progress import silent
from onnxq.search import (
    Samples,
    SearchOptions,
    budget_of,
    choices_of,
    given,
    palette_of,
)
from onnxq.search.search import frontier_of
from onnxq.targets.attention import broken_attention

pytest.importorskip("highspy")


@pytest.fixture(scope="module")
def frontiers(request):
    fixtures = request.config.rootpath / "fixtures" / "transformer"
    model = next(fixtures.glob("*.onnx"))
    config = Config()
    source = steps.prepare(model, config)
    plan = steps.plan(source, config)
    calib = next(p for p in sorted(fixtures.glob("calib*")) if p.suffix in (".npz", ".npy"))
    rest, held = held_out(steps.data(source, [str(calib)], config), 8)
    stats = steps.calibrate(source, plan, rest, config)
    options = SearchOptions(budget_of(max_cost=0.5), rank_samples=2)
    by_plan = given(source.graph, plan)
    by_table = palette_of(source, config, choices_of("int8,float", None, config.placement))
    samples = Samples(rest, held, held)
    return [
        frontier_of(source, palette, stats, samples, options, config, silent)
        for palette in (by_plan, by_table)
    ]


@pytest.mark.parametrize("i", [0, 1], ids=["of a plan", "of the table"])
def test_leaving_one_product_float_leaves_its_attention_float(frontiers, i):
    frontier = frontiers[i]
    graph, nodes = frontier.meter.source.graph, frontier.nodes
    assert not broken_attention(graph, nodes)
    broken = []
    for node in nodes:
        rest = [n for n in nodes if n != node]
        if not (found := broken_attention(graph, rest)):
            continue
        trial = frontier.of(dict.fromkeys(rest, "int8"))
        broken.append(node)
        assert {node, *found} <= set(trial.floats)
        assert not broken_attention(graph, list(trial.choices))
    assert broken
