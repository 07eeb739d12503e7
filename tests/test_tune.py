"""A goal in place of options: the rungs, what judges them, and what a killed run goes on with."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array, to_array

import onnxq
from onnxq.calib.holdout import content_order
from onnxq.cost.fit import ratios_of
from onnxq.cost.shapes import usual_shapes
from onnxq.cost.timing import NOTHING, read_profile, timing_of
from onnxq.errors import DataError, OnnxqError, PlanError
from onnxq.finetune.options import FinetuneOptions
from onnxq.judge.accuracy import Reference
from onnxq.ladder import LADDER, Row
from onnxq.ladder.result import Rung
from onnxq.model.graph import to_proto
from onnxq.pipeline import opened
from onnxq.pipeline import quantize as pipeline
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import prepare
from onnxq.recover.choice import ALGORITHMS

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
CLASSIFIER = FIXTURES / "classifier" / "classifier.onnx"
IMAGES = FIXTURES / "classifier" / "calib.npy"


@pytest.fixture(scope="module")
def images():
    return np.load(IMAGES)[:64]


def rows(*names):
    return [row for row in LADDER if row.name in names]


def tune(images, ladder=("default",), **options):
    goal = {k: options.pop(k) for k in ("min_sqnr", "max_drop", "agreement", "metric", "outputs")
            if k in options}  # fmt: skip
    return onnxq.tune(CLASSIFIER, images, onnxq.Goal(**goal), ladder=rows(*ladder), **options)


def counting(monkeypatch):
    """How often a model is made from here on."""
    calls = []
    real = pipeline.made
    monkeypatch.setattr(
        "onnxq.ladder.climbing.made", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    return calls


def test_the_first_rung_is_what_quantize_does_and_its_figure_what_it_prints(images):
    found = tune(images, min_sqnr=20)
    plain = onnxq.quantize(CLASSIFIER, images)
    assert [rung.name for rung in found.rungs] == ["default"]
    assert found.holds
    assert to_proto(found.result.graph) == to_proto(plain.graph)
    assert found.result.agreement.headline == plain.agreement.headline
    assert found.taken.figure == found.taken.sqnr_db == plain.agreement.headline.sqnr_db
    assert found.result.manifest["agreement"]["headline"]["sqnr_db"] == round(found.taken.figure, 3)
    assert found.judges() == "8 held-out samples"
    assert 0.9 < found.taken.macs <= 1
    assert 0.24 < found.taken.cost < 0.3  # 8 bits of 32


def test_the_times_of_a_device_price_the_rungs(images, tmp_path):
    graph = prepare(CLASSIFIER, Config()).graph
    path = tmp_path / "times.json"

    def profile(slow):
        times = {n.name: 1.0 if n.op == slow else 0.1 for n in graph.nodes}
        path.write_text(json.dumps(times))

    profile("Conv")
    found = tune(images, min_sqnr=20, cost=str(path))
    shapes = usual_shapes(graph)
    timing = timing_of(graph, read_profile(graph, path), shapes, "fp32", ratios_of(None))
    expected = timing.total(found.result.plan) / timing.total(NOTHING)
    assert found.taken.cost == pytest.approx(expected, rel=0.02)
    assert found.taken.macs > 0.9
    assert "cost (times.json)" in str(found.table().columns)
    first = found.key
    profile("Add")  # another device under the same name is another question
    again = tune(images, min_sqnr=20, cost=str(path))
    assert again.key != first
    assert again.taken.cost != found.taken.cost


def test_the_worst_nodes_are_left_float_as_few_as_are_needed(images):
    plain = tune(images, min_sqnr=20, recover="none").taken.figure
    found = tune(images, ("default", "float"), min_sqnr=plain + 2, recover="none")
    floats = [rung for rung in found.rungs if rung.row == "float" and rung.made]
    holding = [rung for rung in floats if rung.holds]
    assert found.holds
    assert found.taken in holding
    assert found.taken.cost == min(rung.cost for rung in holding)
    fewer = [rung for rung in floats if len(rung.floats) == len(found.taken.floats) - 1]
    assert all(not rung.holds for rung in fewer)
    assert set(found.taken.floats).isdisjoint(found.result.plan.nodes)
    again = onnxq.quantize(CLASSIFIER, images, plan_from=found.result.plan, recover="none")
    assert again.agreement.headline.sqnr_db == pytest.approx(found.taken.figure, abs=0.02)


def test_no_rung_is_taken_that_does_worse_than_the_default(images):
    found = tune(images, ("default", "method", "float"), min_sqnr=99, recover="none")
    assert not found.holds
    made = [rung for rung in found.rungs if rung.made]
    assert found.taken.figure == max(rung.figure for rung in made) >= found.rungs[0].figure
    assert found.result.agreement.headline.sqnr_db == found.taken.sqnr_db
    assert all(rung.macs >= 0.5 for rung in made)


def test_samples_that_judge_take_part_in_nothing_else(images, monkeypatch):
    seen = []
    real = pipeline.made

    def watched(opened, *args, **kwargs):
        seen.append(opened)
        return real(opened, *args, **kwargs)

    monkeypatch.setattr("onnxq.ladder.climbing.made", watched)
    for goal, count in (({"min_sqnr": 20}, 8), ({"agreement": 0.5}, 16)):
        found = tune(images, **goal)
        rest, check = seen[-1].rest, seen[-1].check
        digests = [{facts.digest for facts in part.facts()} for part in (rest, check)]
        assert not digests[0] & digests[1]
        assert (len(rest), len(check), found.samples) == (64 - count, count, count)
        assert found.result.stats.data == rest.digest()


def test_too_few_samples_to_spare_are_not_called_held_out(images):
    found = tune(images[:3], agreement=0.5)
    assert found.judges() == "3 samples that calibrate too"
    assert found.result.manifest["agreement"]["seen"] == "of the calibration"


def test_samples_of_their_own_judge_and_calibrate_nothing(images, tmp_path):
    np.save(tmp_path / "eval.npy", images[:12])
    judges = onnxq.Evaluation([str(tmp_path / "eval.npy")])
    found = tune(images[:40], min_sqnr=20, evaluation=judges)
    assert found.judges() == "12 held-out samples"
    assert found.result.stats.samples == 28  # of 40, 12 of which judge
    assert found.result.manifest["agreement"]["samples"] == 12


def test_a_drop_of_top1_is_of_the_labels(images, tmp_path):
    (right,) = ort.InferenceSession(CLASSIFIER).run(["logits"], {"image": images})
    labels = right.argmax(1)
    labels[::2] += 1  # so every second is wrong
    np.save(tmp_path / "labels.npy", labels)
    judges = onnxq.Evaluation(labels=tmp_path / "labels.npy")
    found = tune(images, max_drop="100", metric="top1", evaluation=judges)
    wrong = [k for k in range(64) if k % 2 == 0]
    held = content_order(onnxq.data(onnxq.prepare(CLASSIFIER), images))[:16]
    assert found.reference == 100 * (1 - len({*held} & {*wrong}) / 16)
    assert found.samples == 16
    assert found.holds
    with pytest.raises(DataError, match="needs labels"):
        tune(images, max_drop="1", metric="top1")
    with pytest.raises(PlanError, match="--labels are for"):
        tune(images, min_sqnr=20, evaluation=judges)


def test_agreement_is_the_share_of_equal_classes(images):
    found = tune(images, agreement=0.5)
    assert found.scored_by == "agreement"
    assert found.taken.figure * 16 == pytest.approx(round(found.taken.figure * 16))
    assert found.reference == 1


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ({}, "there is no goal; give one of"),
        ({"min_sqnr": 20, "agreement": 0.9}, "--min-sqnr and --agreement are several goals"),
        ({"agreement": 1.5}, "give a share, above 0"),
        ({"min_sqnr": math.nan}, "give a number of dB"),
        ({"max_drop": "much"}, "write 0.5% of the float score"),
        ({"min_sqnr": 20, "metric": "top1"}, "contradict each other"),
        ({"max_drop": "1", "metric": "mse"}, "has no score of the float model"),
        ({"max_drop": "1", "metric": "nonsense"}, "unknown metric 'nonsense'"),
        ({"min_sqnr": 20, "outputs": ("y",)}, "--output names what top1"),
    ],
)
def test_a_goal_that_is_none_is_refused(goal, message):
    with pytest.raises(PlanError, match=message):
        onnxq.Goal(**goal)


def test_a_drop_may_be_of_lower_scores():
    goal = onnxq.Goal(max_drop="0.5", metric="a:b", direction="lower")
    assert goal.holds(1.4, 1.0)
    assert not goal.holds(1.6, 1.0)
    assert not goal.holds(math.nan, 1.0)


def test_what_was_asked_for_is_not_tried_otherwise(images):
    found = tune(images, ("default", "method", "recoveries", "16 bits"), min_sqnr=99,
                 method="max", recover="none")  # fmt: skip
    assert [rung.why for rung in found.rungs[1:]] == [
        "--method max was asked for",
        "--recover none was asked for",
        "target tensorrt has no activations of 16-bit integers",
    ]


def test_activations_of_16_bits_where_the_target_has_them(images):
    found = tune(images, ("default", "16 bits"), min_sqnr=99, target="onnxruntime")
    wide = found.rungs[1]
    assert wide.made
    assert wide.figure > found.rungs[0].figure + 3  # the weights alone have 8 bits
    assert wide.cost == pytest.approx(0.5, abs=0.05)
    assert {spec.dtype for spec in found.result.plan.edges.values()} == {"int8", "int16"}


def test_a_row_may_be_added_and_what_it_cannot_make_is_listed(images):
    def broken(on):
        on.measure("own", "a pattern without a match", {"skip": "nonsense"})

    found = onnxq.tune(CLASSIFIER, images, onnxq.Goal(min_sqnr=99),
                       ladder=[*rows("default"), Row("own", broken)])  # fmt: skip
    assert "nonsense" in found.rungs[1].why
    assert found.taken.name == "default"


@pytest.fixture
def small(tmp_path):
    """Four Convs and 12 samples."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 16, 8, 8] x) => (float[N, 16, 1, 1] y) {
            h = Conv<strides = [2, 2]>(x, a)
            r = Relu(h)
            i = Conv<pads = [1, 1, 1, 1]>(r, b)
            s = Relu(i)
            j = Conv<pads = [1, 1, 1, 1]>(s, c)
            y = Conv(j, d)
        }""")
    rng = np.random.default_rng(0)
    for name in "abcd":
        values = rng.normal(size=(16, 16, 3, 3)).astype(np.float32)
        model.graph.initializer.append(from_array(values, name))
    onnx.save(model, tmp_path / "small.onnx")
    return tmp_path / "small.onnx", rng.normal(size=(12, 16, 8, 8)).astype(np.float32)


def test_each_recovery_is_tried_and_nothing_is_run_twice(small, monkeypatch):
    counted, floats = [], []
    real, reference = opened.calibrate, Reference.of

    def calibrate(*args, **kwargs):
        counted.append(args[0].sha256)
        return real(*args, **kwargs)

    def of(*args, **kwargs):
        floats.append(1)
        return reference(*args, **kwargs)

    monkeypatch.setattr(opened, "calibrate", calibrate)
    monkeypatch.setattr(Reference, "of", of)
    made = counting(monkeypatch)
    ladder = rows("default", "recoveries", "float")
    found = onnxq.tune(*small, onnxq.Goal(min_sqnr=99), ladder=ladder)
    assert len(made) > 4
    assert len(counted) == len(set(counted)) < len(made)  # a graph that is reshaped is another
    assert len(floats) == 1
    tried = [rung for rung in found.rungs if rung.row == "recoveries"]
    more = [name for name in ALGORITHMS if name not in ("channels", "bias")]
    assert sorted(rung.name for rung in tried) == sorted(f"recover +{name}" for name in more)
    for rung in tried:
        assert rung.made or "changes nothing" in rung.why
        assert "bias" in rung.changes["recover"]  # the default goes on


def test_nodes_of_a_graph_that_recoveries_reshaped_are_ranked_too(small):
    path, data = small
    model = onnx.load(path)
    first, second = model.graph.initializer[:2]
    factors = np.logspace(-1.5, 1.5, 16, dtype=np.float32).reshape(-1, 1, 1, 1)
    a, b = (to_array(t) for t in (first, second))
    first.CopyFrom(from_array(a * factors, "a"))
    second.CopyFrom(from_array(b / factors.reshape(1, -1, 1, 1), "b"))
    onnx.save(model, path)
    found = onnxq.tune(path, data, onnxq.Goal(min_sqnr=99), ladder=rows("default", "float"),
                       recover="equalize")  # fmt: skip
    plain = onnxq.quantize(path, data, recover="none").agreement.headline.sqnr_db
    assert found.rungs[0].figure > plain + 3  # it was reshaped
    assert found.rungs[1].name == "1 worst node float"
    assert found.rungs[1].made


def test_what_is_learned_is_a_rung_where_torch_is_installed(small):
    pytest.importorskip("torch", reason='pip install "onnxq[finetune]"')
    found = onnxq.tune(*small, onnxq.Goal(min_sqnr=99), ladder=rows("default", "finetune"),
                       learning=FinetuneOptions(steps=10, polish=False))  # fmt: skip
    first, learned = found.rungs
    assert learned.row == "finetune"
    assert "torch" not in learned.why
    assert learned.cost == first.cost or "changes nothing" in learned.why


def test_a_killed_run_goes_on_and_a_finished_one_runs_nothing(small, tmp_path, monkeypatch):
    goal, made = onnxq.Goal(min_sqnr=99), tmp_path / "made"
    ladder, stopped = rows("default", "method", "float"), []

    def killed(tuned):
        stopped[:] = tuned.rungs
        if len(tuned.rungs) == 4:
            raise KeyboardInterrupt

    whole = onnxq.tune(*small, goal, ladder=ladder, folder=tmp_path / "whole")
    calls = counting(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        onnxq.tune(*small, goal, ladder=ladder, folder=made, told=killed)
    begun = len(calls)
    found = onnxq.tune(*small, goal, ladder=ladder, folder=made)
    assert str(found.rungs[:4]) == str(tuple(stopped))  # NaN is not equal to itself
    assert str(timeless(found)) == str(timeless(whole))
    once = [rung for rung in whole.rungs if rung.made]
    again = found.chosen < 4  # what was taken before the end is made again
    assert len(calls) == len(once) + again
    assert begun == len([rung for rung in stopped if rung.made])
    calls.clear()
    read = onnxq.tune(*small, goal, ladder=ladder, folder=made)
    assert not calls
    assert read.result is None
    assert str(read.rungs) == str(found.rungs)
    names = {path.name for path in made.iterdir()}
    assert names == {"small.int8.onnx", "small.int8.onnx.manifest.json", "plan.yaml",
                     "config.yaml", "tune.json"}  # fmt: skip
    (made / "small.int8.onnx").unlink()
    onnxq.tune(*small, goal, ladder=ladder, folder=made)
    assert len(calls) == 1
    models = [onnx.load(folder / "small.int8.onnx") for folder in (made, tmp_path / "whole")]
    assert models[0].graph == models[1].graph


def timeless(tuned):
    """The rungs without what they took."""
    return [dataclasses.replace(rung, seconds=0) for rung in tuned.rungs]


def test_a_folder_of_another_tuning_or_of_other_files_is_refused(images, tmp_path):
    tune(images, min_sqnr=20, folder=tmp_path / "made")
    with pytest.raises(PlanError, match="holds the tuning of another model"):
        tune(images, min_sqnr=21, folder=tmp_path / "made")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(OnnxqError, match="holds other files"):
        tune(images, min_sqnr=20, folder=tmp_path / "other")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["notes.txt"]


def test_nothing_is_left_where_the_first_rung_fails(images, tmp_path):
    with pytest.raises(OnnxqError):
        tune(images, min_sqnr=20, skip="nonsense", folder=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_record_is_read_back(images, tmp_path):
    found = tune(images, ("default", "16 bits"), min_sqnr=99, folder=tmp_path / "made")
    read = onnxq.Tuned.load(tmp_path / "made" / "tune.json")
    assert str(read) == str(dataclasses.replace(found, result=None))
    assert json.loads((tmp_path / "made" / "tune.json").read_text())["kind"] == "onnxq.tuning"
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(PlanError, match="is not a tuning"):
        onnxq.Tuned.load(tmp_path / "broken.json")


def test_the_cheapest_that_holds_is_taken_and_else_the_best():
    dear = Rung("float", "dear", figure=30, sqnr_db=30, cost=0.4, macs=0.8, holds=True)
    cheap = dataclasses.replace(dear, name="cheap", figure=25, cost=0.3)
    poor = Rung("default", "poor", figure=10, sqnr_db=10)
    left = Rung("method", "left", why="no")
    record = onnxq.Tuned("", "", "", "sqnr", True, math.inf, "ops", 8, "")
    assert dataclasses.replace(record, rungs=(poor, dear, cheap)).choice() == 2
    assert dataclasses.replace(record, rungs=(left, poor)).choice() == 1
    lower = dataclasses.replace(record, higher_is_better=False, scored_by="a:b")
    missed = dataclasses.replace(cheap, holds=False)
    assert dataclasses.replace(lower, rungs=(missed, poor)).choice() == 1
