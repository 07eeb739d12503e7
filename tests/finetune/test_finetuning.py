"""Blocks that are learned bring a network closer to its float model, or stay as they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
import pytest

torch = pytest.importorskip("torch", reason='pip install "onnxq[finetune]"')

from onnxq.calib.data import InputInfo, open_data  # noqa: E402
from onnxq.calib.methods import Max  # noqa: E402
from onnxq.calib.ranges import read_ranges  # noqa: E402
from onnxq.errors import DataError, ModelError, OnnxqError  # noqa: E402
from onnxq.finetune.block_model import BlockModel  # noqa: E402
from onnxq.finetune.blocks import Block  # noqa: E402
from onnxq.finetune.finetuning import Finetune, Run, enough_memory, steps_of  # noqa: E402
from onnxq.finetune.learning import NO_NUMBER  # noqa: E402
from onnxq.finetune.options import FinetuneOptions  # noqa: E402
from onnxq.finetune.pupils import Pupils  # noqa: E402
from onnxq.finetune.work import loads  # noqa: E402
from onnxq.judge.verdict import sqnr  # noqa: E402
from onnxq.passes.insert_qdq import InsertOptions  # noqa: E402
from onnxq.passes.prepare import prepare  # noqa: E402
from onnxq.recover.draft import Bench, Draft  # noqa: E402
from onnxq.run.segments import Segment  # noqa: E402
from onnxq.spec import QuantSpec  # noqa: E402
from onnxq.targets import tensorrt  # noqa: E402
from onnxq.targets.options import PlanOptions  # noqa: E402

RESIDUAL = """(float[N,3,8,8] x) => (float[N,4] y) {
  [c0] a0 = Conv<pads = [1,1,1,1]>(x, w0)  r0 = Relu(a0)
  [c1] a1 = Conv<pads = [1,1,1,1]>(r0, w1)  r1 = Relu(a1)
  [c2] a2 = Conv<pads = [1,1,1,1]>(r1, w2)  s2 = Add(a2, r0)  r2 = Relu(s2)
  [c3] a3 = Conv<pads = [1,1,1,1]>(r2, w3)  r3 = Relu(a3)
  [c4] a4 = Conv<pads = [1,1,1,1]>(r3, w4)  s4 = Add(a4, r2)  r4 = Relu(s4)
  p = GlobalAveragePool(r4)  f = Flatten(p)
  [fc] y = Gemm<transB = 1>(f, w5)
}"""
ROOTS = RESIDUAL.replace(
    "r1 = Relu(a1)",
    """
  zero = Constant<value_float = 0.0>()  m = Greater(a1, zero)  c = Cast<to = 1>(m)
  q1 = Mul(a1, c)  r1 = Sqrt(q1)""",
)  # whose slope at 0 is none
SHAPES = {"w0": (16, 3, 3, 3), "w1": (16, 16, 3, 3), "w2": (16, 16, 3, 3), "w3": (16, 16, 3, 3),
          "w4": (16, 16, 3, 3), "w5": (4, 16)}  # fmt: skip
FEW = FinetuneOptions(steps=40, batch=8, polish=False)


class Killed(Exception):
    """What ends a run in its middle."""


@pytest.fixture
def bench(graph_of, tmp_path):
    """`bench(body)`: the bench of a network at w4a8 with 48 samples, and a draft of it."""

    def make(body=RESIDUAL, samples=48, side=8):
        rng = np.random.default_rng(0)
        weights = {n: rng.normal(size=s).astype(np.float32) / np.float32(np.prod(s[1:]) / 2) ** 0.5
                   for n, s in SHAPES.items()}  # fmt: skip
        graph = prepare(graph_of(body.replace("N,3,8,8", f"N,3,{side},{side}"), weights))
        options = PlanOptions(scheme="w4a8", weights="per-channel", min_channels=1)
        plan = tensorrt.plan(graph, options, "m")
        size = 3, side, side
        np.save(tmp_path / "x.npy", rng.normal(size=(samples, *size)).astype(np.float32))
        data = open_data(str(tmp_path / "x.npy"), {"x": InputInfo((1, *size), np.dtype("f4"))})

        def read(graph, stats):
            return read_ranges(stats, Max(), QuantSpec(), plan.tied)

        made = Bench(graph, plan, data, InsertOptions(), read)
        return made, Draft(graph, made.ranges(graph))

    return make


def same(a, b):
    return (
        a.codes.keys() == b.codes.keys()
        and all(np.array_equal(a.codes[w].codes, b.codes[w].codes) for w in a.codes)
        and all(np.array_equal(a.codes[w].scale, b.codes[w].scale) for w in a.codes)
        and all(np.array_equal(a.shifts[s], b.shifts[s]) for s in a.shifts)
        and a.ranges.limits == b.ranges.limits
    )


def test_judges_find_a_learned_network_closer(bench):
    made, draft = bench()
    better, outcome = Finetune(FEW, threads=1)(made, draft)
    assert better.codes
    assert better.shifts
    assert outcome.after["y"] > outcome.before["y"] + 0.5
    found = sqnr(Pupils(made).errors(better))
    assert found["y"] == pytest.approx(outcome.after["y"])
    assert sum(block["kept"] for block in outcome.facts["blocks"]) == len(outcome.gains) > 0


def test_large_maps_are_learned_from_through_windows(bench):
    made, draft = bench(samples=12, side=56)
    run = Run(Finetune(FEW), made, draft)
    models = [BlockModel.of(b, made.plan, draft, made.insert, "cpu") for b in run.blocks]
    first = {"x": torch.from_numpy(made.data.sample(0)["x"])}
    seen = [load.shapes is not None for load in loads(models, first)]
    assert seen[0]
    assert not seen[-1]  # it writes a vector
    better, outcome = Finetune(FEW, threads=1)(made, draft)
    assert better.codes
    assert outcome.after["y"] > outcome.before["y"]


def test_the_same_seed_gives_the_same_bits_in_any_order_of_the_samples(bench):
    made, draft = bench()
    turned = replace(made, data=made.data.select(range(len(made.data))[::-1]))
    results = [Finetune(FEW, seed, threads=1)(b, draft)[0]
               for b, seed in ((made, 1), (turned, 1), (made, 2))]  # fmt: skip
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_a_run_that_is_killed_goes_on_to_the_same_bits(bench, tmp_path):
    made, draft = bench()
    whole, _ = Finetune(FEW, threads=1)(made, draft)
    state = tmp_path / "state.npz"

    def killing(done, total):
        if done == total * 3 // 4:
            raise Killed

    with pytest.raises(Killed):
        Finetune(FEW, state=state, threads=1)(replace(made, progress=killing), draft)
    assert state.exists()
    steps = []
    counting = replace(made, progress=lambda done, total: steps.append(done))
    resumed, outcome = Finetune(FEW, state=state, threads=1)(counting, draft)
    assert same(whole, resumed)
    assert len(steps) < 2 * FEW.steps  # the first block is not learned again
    assert "went on behind 1 block" in outcome.notes[0]


def test_a_state_of_other_options_or_another_beginning_is_not_gone_on_with(bench, tmp_path):
    made, draft = bench()
    state = tmp_path / "state.npz"
    fast = replace(FEW, steps=4)
    Finetune(fast, state=state, threads=1)(made, draft)
    _, outcome = Finetune(replace(FEW, steps=5), state=state, threads=1)(made, draft)
    assert not any("went on" in note for note in outcome.notes)
    moved = replace(draft, ranges=replace(draft.ranges, tensors={
        n: replace(r, amax=r.amax * 2) for n, r in draft.ranges.tensors.items()}))  # fmt: skip
    _, outcome = Finetune(replace(FEW, steps=5), state=state, threads=1)(made, moved)
    assert not any("went on" in note for note in outcome.notes)


def test_a_file_of_another_kind_is_no_state_and_stays(bench, tmp_path):
    made, draft = bench()
    state = tmp_path / "state.npz"
    state.write_bytes(b"something else")
    with pytest.raises(DataError, match="is not a state of a finetune"):
        Finetune(FEW, state=state, threads=1)(made, draft)
    assert state.read_bytes() == b"something else"


def test_a_block_whose_loss_becomes_no_number_stays_as_it_was(bench):
    made, draft = bench(ROOTS)
    better, outcome = Finetune(FEW, threads=1)(made, draft)
    assert NO_NUMBER in outcome.undone.values()
    assert all(np.isfinite(c.scale).all() for c in better.codes.values())
    assert outcome.after["y"] >= outcome.before["y"]


def test_what_little_memory_holds_is_fewer_samples_and_said(bench):
    made, draft = bench()
    _, outcome = Finetune(replace(FEW, steps=4), threads=1)(replace(made, max_memory=1), draft)
    assert outcome.facts["samples"] == 8
    assert any("8 of 40 samples: more do not fit" in note for note in outcome.notes)


def test_a_lack_of_memory_is_one_line_that_says_what_takes_less():
    node = gs.Node("Conv", "conv")
    block = Block(Segment((node,), (), (), ()), (), (), ())
    for error in (
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"),
    ):
        with (
            pytest.raises(OnnxqError, match=r"no memory .* smaller --batch"),
            enough_memory(block, None),
        ):
            raise error
    with pytest.raises(RuntimeError, match="something else"), enough_memory(block, None):
        raise RuntimeError("something else")


def test_an_op_without_a_function_is_named_before_anything_runs(bench):
    _, draft = bench(RESIDUAL.replace("p = GlobalAveragePool(r4)", """
        lrn = LRN<size = 3>(r4)  p = GlobalAveragePool(lrn)"""))  # fmt: skip
    with pytest.raises(ModelError, match=r"no function for .*LRN"):
        Finetune(FEW).check(draft.graph, ["y"])


def test_steps_are_by_the_work_of_a_model_and_epochs_by_its_samples():
    assert steps_of(FinetuneOptions(), 200, 1e7) > steps_of(FinetuneOptions(), 200, 1e9)
    assert steps_of(FinetuneOptions(epochs=3), 64, 1e9) == 24
    assert steps_of(FinetuneOptions(steps=7), 64, 1e9) == 7
