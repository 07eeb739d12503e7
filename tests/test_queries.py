"""A DETR's queries come in an order that values choose: each judge matches their rows."""

import numpy as np
import pytest
from detr_like import detr, images

from onnxq import api
from onnxq.judge.judged import judged_tensors
from onnxq.judge.jury import Jury
from onnxq.judge.metrics import LABEL_FREE
from onnxq.judge.parts import parts_of, with_outputs, with_stand_ins
from onnxq.judge.verdict import gathered, sqnr
from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.pipeline.config import Config
from onnxq.run.over import loaded
from onnxq.run.runtime import Runtime
from onnxq.search.meter import Meter
from onnxq.sensitivity import Options


@pytest.fixture
def graph(graph_of):
    return apply(graph_of(*detr()), infer_shapes)


@pytest.fixture
def outputs(graph):
    """The float model's, with boxes that overlap no other."""
    found = loaded(to_proto(graph), None)({"images": images(1)})
    low = np.arange(20)[None, :, None] + np.zeros((1, 20, 2))
    return {**found, "boxes": np.concatenate([low, low + 0.9], 2).astype(np.float32)}


def moved(outputs):
    order = np.random.default_rng(3).permutation(20)
    return {n: x[:, order] for n, x in outputs.items()}


def lost(outputs):
    """The row of the best score is elsewhere."""
    found = {n: x.copy() for n, x in outputs.items()}
    found["boxes"][0, found["scores"][0].max(-1).argmax()] += 1000
    return found


def by_jury(graph, ref, test):
    jury = Jury.of(graph, [], [ref], Runtime())
    return sqnr(gathered([jury.sums(0, test)]))["scores"]


def by_search(graph, ref, test):
    shapes = {n: t.shape for n, t in graph.tensors().items() if t.shape is not None}
    parts = parts_of(with_stand_ins(graph), (), shapes)
    meter = Meter(None, None, LABEL_FREE["sqnr"], parts, [], [], Config())
    meter.__dict__["_kept"] = [ref]
    return meter._read([test]).parts["matched scores"]


@pytest.mark.parametrize("logits", [False, True], ids=["likely", "logits"])
@pytest.mark.parametrize("judge", [by_jury, by_search], ids=["recoveries", "search"])
def test_rows_in_another_order_are_no_loss_and_a_lost_row_is(graph, outputs, judge, logits):
    if logits:
        p = outputs["scores"]
        outputs["scores"] = np.log(p / (1 - p))
    assert judge(graph, outputs, moved(outputs)) >= 200
    assert judge(graph, outputs, lost(outputs)) < 20
    assert judge(graph, outputs, lost(moved(outputs))) < 20


def test_queries_are_judged_at_the_outputs_where_nothing_before_them_has_an_order(graph):
    assert set(judged_tensors(graph)) == {"boxes", "scores"}
    assert with_stand_ins(graph) is graph
    parts = parts_of(graph, (), {n: t.shape for n, t in graph.tensors().items() if t.shape})
    assert {p.name for p in parts} == {"matched boxes", "matched scores"}
    assert {t.name for t in with_outputs(graph, parts).outputs} == {"boxes", "scores"}


@pytest.mark.parametrize("apart", [True, False], ids=["parts", "wholes"])
def test_a_ranking_matches_rows(graph, apart):
    source, config = api.prepare(to_proto(graph)), Config()
    plan = api.plan(source, config)
    data = api.data(source, {"images": images(4)}, config)
    ranges = api.read(source, plan, api.calibrate(source, plan, data, config), "max")
    few = plan.only("enc_score", "dec1_up")
    found = api.sensitivity(source, few, ranges, data, Options(apart=apart))
    outputs = {row.name: row.outputs for row in found.rows}
    judged = {"matched boxes", "matched scores"} if apart else {"boxes", "scores"}
    assert all(set(said) == judged for said in outputs.values())
    assert min(outputs["enc_score"].values()) > 30  # it says the order, and hardly what is found
