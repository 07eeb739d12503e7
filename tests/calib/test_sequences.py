"""Models that remember: the ranges are of the states that they really come to."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxq import api
from onnxq.calib.stats import Stats, merge
from onnxq.errors import DataError, PlanError
from onnxq.pipeline.config import Config
from tests.streaming import FEEDBACK, PAIRS, SHAPES, sequences, streaming_model, unrolled

STEPS, COUNT = 12, 9
CONFIG = Config(feedback=PAIRS, check_samples=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("streaming") / "model.onnx"
    onnx.save(streaming_model(), path)
    return path


@pytest.fixture(scope="module")
def xs():
    return sequences(COUNT, STEPS)


def stacked(xs, **more):
    """All sequences as one mapping of arrays, with `reset`."""
    reset = np.concatenate([np.arange(len(x)) == 0 for x in xs]).astype(np.int8)
    return {"x": np.concatenate(xs), "reset": reset, **more}


def counted(model, data, config=CONFIG, shard=None):
    found = api.calibrate_model(model, data, config, shard=shard)
    return found.ranges, found.stats


@pytest.fixture(scope="module")
def ranges(model, xs):
    return counted(model, stacked(xs))[0]


def test_ranges_are_those_of_the_unrolled_model(model, xs, ranges, tmp_path):
    path = tmp_path / "unrolled.onnx"
    onnx.save(unrolled(onnx.load(model), STEPS), path)
    feeds = [
        {f"x@{k}": x[k : k + 1] for k in range(STEPS)}
        | {f"{n}@0": np.zeros(s, np.float32) for n, s in SHAPES.items() if n != "x"}
        for x in xs
    ]
    found = api.calibrate_model(path, feeds)
    source = api.prepare(model)
    plan = api.plan(source)
    wrote = {name: out for out, name in FEEDBACK.items()}

    def at(name, k):
        return f"{wrote[name]}@{k - 1}" if name in wrote and k else f"{name}@{k}"

    steps = [
        Stats(source.sha256, {n: found.stats[at(n, k)] for n in ranges.tensors}, len(xs))
        for k in range(STEPS)
    ]
    assert {"joined", "h", "h_out"} <= ranges.tensors.keys()
    for method in ("mse", "max", "percentile:99.9"):
        read = counted(model, stacked(xs), replace(CONFIG, method=method))[0]
        assert api.read(source, plan, merge(*steps), method) == read


def test_without_feedback_the_range_of_the_state_is_another(model, xs, ranges):
    zeros = {n: np.zeros((STEPS * COUNT, *s[1:]), np.float32)
             for n, s in SHAPES.items() if n != "x"}  # fmt: skip
    ignored = counted(model, {"x": np.concatenate(xs), **zeros}, Config())[0]
    assert ranges.tensors["h"].amax > 0.5
    assert ignored.tensors["h_out"].amax < 0.8 * ranges.tensors["h_out"].amax


@pytest.mark.parametrize("workers", [1, 3])
def test_order_and_split_of_sequences_change_no_bit(model, xs, ranges, workers, tmp_path):
    config = replace(CONFIG, workers=workers)
    assert counted(model, stacked(xs[::-1]), config)[0] == ranges
    for i, part in enumerate((xs[:4], xs[4:])):
        np.savez(tmp_path / f"{i}.npz", **stacked(part))
    files = [str(tmp_path / f"{i}.npz") for i in range(2)]
    assert counted(model, files, config)[0] == ranges
    shards = [counted(model, stacked(xs), config, (k, 2))[1] for k in (1, 2)]
    assert api.read_ranges(*planned(model), merge(*shards), "mse") == ranges


def planned(model):
    source = api.prepare(model)
    return source, api.plan(source)


def test_a_folder_is_a_sequence(model, xs, ranges, tmp_path):
    for i, x in enumerate(xs[::-1]):
        folder = tmp_path / "all" / f"{i}"
        folder.mkdir(parents=True)
        if i % 2:
            np.save(folder / "x.npy", x)
        else:
            for k, one in enumerate(x):
                np.savez(folder / f"{k}.npz", x=one)
    assert counted(model, [str(tmp_path / "all")])[0] == ranges


def test_feeds_say_where_a_sequence_begins_and_a_function_what_is_fed_back(
    model, xs, ranges, tmp_path, monkeypatch
):
    lines = ["from tests.streaming import FEEDBACK, sequences", "def feeds():",
             f"    for x in sequences({COUNT}, {STEPS}):", "        for k, one in enumerate(x):",
             "            yield {'x': one} | ({'reset': 1} if k == 0 else {})",
             "feeds.feedback = FEEDBACK"]  # fmt: skip
    (tmp_path / "streamed.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    assert counted(model, ["streamed:feeds"], Config())[0] == ranges
    feeds = [{"x": one, "reset": k == 0} for x in xs for k, one in enumerate(x)]
    assert counted(model, feeds)[0] == ranges


def test_the_first_state_may_be_given(model, xs):
    rng = np.random.default_rng(3)
    first = {n: rng.normal(0, 1, (COUNT, *s[1:])).astype(np.float32)
             for n, s in SHAPES.items() if n != "x"}  # fmt: skip
    dataset = api.data(api.prepare(model), stacked(xs, **first), CONFIG)
    session = api_session(model)
    for s, x in enumerate(xs):
        state = {n: v[s : s + 1] for n, v in first.items()}
        for k in range(STEPS):
            sample = dataset.sample(s * STEPS + k)
            assert all((sample[n] == v).all() for n, v in state.items())
            _, *wrote = session.run(None, {"x": x[k : k + 1], **state})
            state = dict(zip(("cache", "h"), wrote, strict=True))


def api_session(model):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(model), options)


def test_samples_are_whole_sequences_the_last_cut_short(model, xs):
    dataset = api.data(api.prepare(model), stacked(xs), replace(CONFIG, samples=STEPS + 3))
    assert [len(s) for s in dataset.sequences()] == [STEPS, 3]
    drawn = api.data(api.prepare(model), stacked(xs), replace(CONFIG, samples=STEPS + 3, seed=2))
    assert [len(s) for s in drawn.sequences()] in ([STEPS, 3], [3, STEPS])


def mapping(**arrays):
    return {n: np.asarray(x, np.float32) for n, x in arrays.items()}


X = np.zeros((6, 8, 4))
FULL = np.zeros((6, 32, 4))


@pytest.mark.parametrize(
    ("pairs", "data", "error", "said"),
    [
        (("h_out",), mapping(x=X), PlanError, "--feedback 'h_out' is not OUT=IN"),
        (("s=h",), mapping(x=X), PlanError, "the model has no output 's'; it has 'y', 'cache_out'"),
        (("h_out=s",), mapping(x=X), PlanError, "the model has no input 's'; it has 'x', 'cache'"),
        (("y=h",), mapping(x=X), PlanError, "the output is float32 (1, 16, 4), the input "),
        (("h_out=h", "y=h"), mapping(x=X), PlanError, "feeds input 'h' twice, by 'h_out' and by"),
        (PAIRS, mapping(x=X, h=FULL), DataError, "gives input 'h' within a sequence, sample 1"),
        (PAIRS, mapping(x=X, h=FULL[:2]), DataError, "2 values of input 'h', which is fed back"),
        (PAIRS, mapping(x=X, reset=np.ones(6)), DataError, "no sequence has a second sample"),
        (PAIRS, mapping(x=X, reset=np.ones((6, 2))), DataError, "'reset' of sample 0 is float32"),
        (PAIRS, mapping(x=X[:1]), DataError, "no sequence has a second sample"),
    ],
)  # fmt: skip
def test_what_cannot_be_fed_back_is_refused(model, pairs, data, error, said):
    with pytest.raises(error) as raised:
        api.data(api.prepare(model), data, Config(feedback=pairs))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_shard_that_would_split_a_sequence_is_refused(model, xs):
    with pytest.raises(DataError, match="--shard 3/4 would split a sequence: there are 2"):
        counted(model, stacked(xs[:2]), shard=(3, 4))


def test_a_state_of_unknown_length_takes_that_of_the_data(tmp_path):
    text = """<ir_version: 8, opset_import: ["": 17]> g
        (float[batch,4] x, float[2,batch] s, float[?,3] t)
        => (float[2,batch] s_out, float[?,3] t_out) {
        half = ReduceMean <axes = [1], keepdims = 0> (x)
        s_out = Add (s, half)
        t_out = Relu (t)
    }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    feeds = [{"x": np.ones((5, 4), np.float32)}] * 3
    source = api.open_model(tmp_path / "m.onnx")
    dataset = api.data(source, feeds, Config(feedback=("s_out=s", "t_out=t")))
    assert [dataset.sample(i)["s"].tolist() for i in range(3)] == [[[i] * 5] * 2 for i in range(3)]
    assert dataset.sample(0)["t"].shape == (5, 3)


def test_workers_of_an_executor_count_the_same(model, xs, ranges, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    np.savez(tmp_path / "all.npz", **stacked(xs))
    with ThreadPoolExecutor(2) as pool:
        found = api.calibrate_model(model, [str(tmp_path / "all.npz")], CONFIG, executor=pool)
    assert found.ranges == ranges


def test_every_sample_that_is_held_out_is_of_a_whole_sequence(model, xs):
    from onnxq.calib.holdout import held_out

    found = []
    for order in (xs, xs[::-1]):
        dataset = api.data(api.prepare(model), stacked(order), CONFIG)
        rest, check = held_out(dataset, 8)
        assert [len(s) for s in rest.sequences()] == [STEPS] * (COUNT - 1)
        assert [len(s) for s in check.sequences()] == [8]
        found.append((rest.digest(), check.digest()))
    assert found[0] == found[1]
    assert all(a != b for a, b in itertools.pairwise(found[0]))
