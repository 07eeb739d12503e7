"""The fast path (segments, kept boundaries) gives the scores of the slow one (whole models)."""

from __future__ import annotations

import pytest

from onnxq import api
from onnxq.pipeline.config import Config
from onnxq.sensitivity import Options
from onnxq.targets.options import PlanOptions

CASES = {
    "classifier": ("classifier/classifier.onnx", "classifier/calib.npy", PlanOptions()),
    "transformer": ("transformer/transformer.onnx", "transformer/calib.npz", PlanOptions()),
    "yolo_like": ("yolo_like/yolo_like.onnx", "yolo_like/calib.npy", PlanOptions()),
    "centerpoint": (
        "centerpoint/backbone_neck_head.onnx",
        "centerpoint/calib.npy",
        PlanOptions(deconv="per-tensor"),
    ),
    "voxel_encoder": (
        "centerpoint/voxel_encoder.onnx",
        "centerpoint/voxel_encoder_calib.npy",
        PlanOptions(min_channels=1),
    ),
}
SAMPLES = 2


@pytest.fixture(scope="module", params=CASES)
def subject(request, subject_of):
    model, data, placement = CASES[request.param]
    return subject_of(model, data, SAMPLES, placement)


def damages(ranking):
    return {row.name: row.overall.damage for row in ranking.rows}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "one-off"},
        {"metric": "cosine"},
        {"metric": "kl"},
        {"at": "node", "metric": "mse"},
        {"split": True},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "one-on",
)
def test_segments_score_as_the_whole_model_does(measured, options):
    fast, slow = measured(**options), measured(**options, whole=True)
    a, b = damages(fast), damages(slow)
    assert a.keys() == b.keys()
    # Mostly the same to the bit. Where other fusions round the last bit of a sum otherwise, codes
    # that lie halfway between two move: found 0.03% of a damage, and 4e-6 of all damage.
    total = sum(map(abs, b.values()))
    for name, damage in b.items():
        assert a[name] == pytest.approx(damage, rel=1e-3, abs=1e-5 * total), name


def test_the_worst_nodes_are_those_of_brute_force(measured):
    assert measured().worst(5) == measured(whole=True).worst(5)


def test_parts_and_groups_score_as_the_whole_model_does(subject):
    plan = subject[1]
    names = plan.nodes
    groups = tuple(f"name:{name}" for name in (names[0], names[-1]))
    options = {"granularity": "group", "groups": (*groups, "*"), "split": True}
    fast = api.sensitivity(*subject, Options(**options))
    slow = {row.name: row for row in api.sensitivity(*subject, Options(**options, whole=True)).rows}
    for row in fast.rows:
        assert row.parts.keys() == slow[row.name].parts.keys()
        for part, score in row.parts.items():
            assert score.damage == pytest.approx(slow[row.name].parts[part].damage, rel=1e-3)


@pytest.mark.parametrize("max_memory", [1, 1 << 20])
def test_chunks_of_samples_give_the_same_bits(measured, max_memory):
    assert measured(max_memory=max_memory) == measured()


def test_the_number_of_workers_does_not_matter(subject):
    one, three = (api.sensitivity(*subject, Options(), Config(workers=n)) for n in (1, 3))
    assert one == three


def test_a_toggle_alone_scores_as_the_quantized_model_does(subject, measured):
    source, plan, ranges, dataset = subject
    row = measured().rows[0]
    graph = api.insert(source, plan.only(*row.nodes), ranges)
    agreement = api.compare(source, graph, dataset, Config())
    for name, score in row.outputs.items():
        # a default session has more threads, which sum in another order: 120 dB and more is noise
        assert min(score, 120.0) == pytest.approx(min(agreement[name].sqnr_db, 120.0), abs=0.01)
