"""Models whose outputs cannot all be compared value by value: every verb goes on and says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array

BODY = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 16] x) => (OUTPUTS)
<float none = {-inf}, float limit = {0.1}, int64[2] rows = {-1, 1}, float hundred = {100},
 int64 first = {0}>
{
    h = MatMul(x, w1)
    r = Relu(h)
    m = MatMul(r, w2)
    z = Add(m, bias)
    masked = Where(seen, z, none)
    k = ArgMax<axis = 1>(z)
    s = Sigmoid(z)
    b = Greater(z, limit)
    p = NonZero(b)
    q = Transpose(p)
    kept = GatherND(z, q)
    e = Reshape(kept, rows)
    wide = MatMul(e, w3)
    infinite = Sub(z, none)
    root = Sqrt(none)
    nan = Add(z, root)
    positive = Greater(x, limit)
    where = NonZero(positive)
    row = Gather(where, first)
    taken = Gather(x, row)
    own = MatMul(taken, w1)
    mean = ReduceMean<axes = [1]>(x)
    far = Greater(mean, hundred)
    near = Where(far, none, z)
    size = Shape(z)
}
"""
TYPES = {"masked": "float[N, 32]", "k": "int64[N, 1]", "s": "float[N, 32]", "kept": "float[K]",
         "wide": "float[K, 24]", "infinite": "float[N, 32]", "nan": "float[N, 32]",
         "own": "float[K, 64]", "size": "int64[2]",
         "near": "float[N, 32]"}  # fmt: skip

# an error so large that some value changes sides in some sample
ROUGH = ("quantize", "m.onnx", "--calib", "c.npy", "--method", "percentile:80")


@pytest.fixture
def saved(folder, rng):
    """`saved(outputs)`: a model with these outputs at m.onnx, and its data at c.npy."""

    def make(outputs):
        declared = ", ".join(f"{TYPES[name]} {name}" for name in outputs.split())
        model = onnx.parser.parse_model(BODY.replace("OUTPUTS", declared))
        for name, shape in (("w1", (16, 64)), ("w2", (64, 32)), ("w3", (1, 24)), ("bias", (32,))):
            weight = rng.standard_normal(shape) / np.sqrt(shape[0])
            model.graph.initializer.append(from_array(weight.astype(np.float32), name))
        model.graph.initializer.append(from_array(np.arange(32) % 4 != 0, "seen"))
        onnx.save(model, folder / "m.onnx")
        np.save(folder / "c.npy", rng.standard_normal((64, 16)).astype(np.float32))

    return make


def verbs():
    data = ("--calib", "c.npy")
    yield "quantize", "m.onnx", *data, "--recover", "all", "--method", "max", "-o", "a.onnx"
    yield "quantize", "m.onnx", *data, "--method", "auto", "-o", "q.onnx", "--report", "q.html"
    yield "compare", "m.onnx", "q.onnx", *data, "--per-tensor", "--report", "c.html"
    yield "diff", "a.onnx", "q.onnx", *data
    yield "sensitivity", "m.onnx", *data, "--mode", "one-off", "--metric", "mse"
    yield "recipe", "m.onnx", *data, "--worst", "0,1", "-o", "made"
    yield "search", "m.onnx", *data, "--min-sqnr", "10", "--points", "1", "--trials", "1"
    yield "inspect", "q.onnx", *data


@pytest.mark.parametrize("outputs", ["masked", "k wide"])
def test_every_verb_goes_on(onnxq, saved, outputs):
    saved(outputs)
    for words in verbs():
        ran = onnxq(*words)
        assert ran.code == (1 if words[0] == "diff" else 0), (words, ran.err)
        assert "nan" not in ran.out


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ("infinite nan", "'sqnr' can compare in any sample: there is nothing to rank by"),
        ("own size", "no scored output has floats at a length that the values do not"),
    ],
)
def test_nothing_is_ranked_or_searched_by_outputs_that_say_nothing(refused, saved, outputs, said):
    saved(outputs)
    data = ("m.onnx", "--calib", "c.npy")
    assert said in refused("sensitivity", *data)
    assert said in refused("recipe", *data, "--worst", "0,1", "-o", "made")
    assert said in refused("search", *data, "--min-sqnr", "10", "-o", "p.yaml")


@pytest.mark.parametrize("metric", ["mse", "cosine", "kl"])
def test_no_metric_ranks_by_nan(refused, saved, metric):
    saved("nan")
    found = refused("sensitivity", "m.onnx", "--calib", "c.npy", "--metric", metric)
    assert f"no scored output has a value that '{metric}' can compare" in found


def test_no_plan_is_measured_by_samples_that_say_nothing(refused, saved, folder):
    saved("near")
    np.save(folder / "far.npy", np.full((4, 16), 200, np.float32))
    data = ("m.onnx", "--calib", "c.npy", "--eval", "far.npy")
    for words in (("recipe", *data, "--worst", "0,1", "-o", "made"),
                  ("search", *data, "--min-sqnr", "10", "-o", "p.yaml")):  # fmt: skip
        assert "no scored output has a finite value in any sample" in refused(*words)


def test_what_is_left_out_is_named_with_its_lengths(done, saved, folder):
    saved("s kept")
    out = " ".join(done(*ROUGH, "-o", "q.onnx").out.split())
    assert "note: output 'kept' is not compared: its length depends on the values: shape (" in out
    found = json.loads((folder / "q.onnx.manifest.json").read_text())["agreement"]
    assert list(found["outputs"]) == ["s"]
    assert list(found["left_out"]) == ["kept"]


def test_a_summary_with_nothing_compared_says_so(done, saved):
    saved("kept")
    line = "FP32 against INT8: no output could be compared"
    assert line in done(*ROUGH, "-o", "q.onnx").out
    out = done(*ROUGH, "--check-samples", "0", "-o", "q.onnx").out
    assert "FP32 against INT8: nothing was compared" in out


def test_recoveries_are_judged_where_classes_or_boxes_come_from(done, saved, folder):
    for outputs in ("k", "kept"):
        saved(outputs)
        done("quantize", "m.onnx", "--calib", "c.npy", "-o", "q.onnx")
        (bias,) = json.loads((folder / "q.onnx.manifest.json").read_text())["recovered"]
        assert list(bias["sqnr_db"]) == ["z"]


def test_samples_that_chose_a_plan_are_not_held_out(done, saved):
    saved("s")
    data = ("m.onnx", "--calib", "c.npy")
    line = "FP32 against INT8: 8 samples that chose the plan, ONNX Runtime"
    done("recipe", *data, "--worst", "0,1", "-o", "made")
    found = json.loads(Path("made/m.int8.onnx.manifest.json").read_text())
    assert found["agreement"]["seen"] == "that chose the plan"
    assert line in done("quantize", *data, "--plan", "made/plan.yaml", "-o", "q.onnx").out
    done("search", *data, "--min-sqnr", "10", "--points", "1", "--trials", "1", "-o", "p.yaml")
    assert line in done("quantize", *data, "--plan", "p.yaml", "-o", "q.onnx").out
    # judged on all samples, or on others
    labels = np.random.default_rng(0).integers(0, 32, 64)
    np.save("labels.npy", labels)
    by_all = ("--metric", "top1", "--labels", "labels.npy")
    done("recipe", *data, *by_all, "--worst", "0,1", "-o", "by_all")
    assert line in done("quantize", *data, "--plan", "by_all/plan.yaml", "-o", "q.onnx").out
    np.save("others.npy", np.random.default_rng(9).normal(size=(8, 16)).astype(np.float32))
    done("recipe", *data, "--eval", "others.npy", "--worst", "0,1", "-o", "by_others")
    out = done("quantize", *data, "--plan", "by_others/plan.yaml", "-o", "q.onnx").out
    assert "FP32 against INT8: 8 held-out samples" in out


@pytest.mark.parametrize(
    ("samples", "more", "said"),
    [
        (7, (), "7 samples of the calibration"),
        (1, (), "1 sample of the calibration"),
        (16, (), "2 held-out samples"),
        (16, ("--method", "auto"), "2 samples that chose the method"),
        (16, ("--stats", "all.npz"), "2 samples that the statistics may hold"),
    ],
)
def test_samples_are_held_out_only_where_they_took_no_part(done, saved, samples, more, said):
    saved("s")
    few = ("--samples", samples)
    done("calibrate", "m.onnx", "--calib", "c.npy", *few, "--save-stats", "all.npz", "-o", "r.json")
    out = done("quantize", "m.onnx", "--calib", "c.npy", *few, *more, "-o", "q.onnx").out
    assert f"FP32 against INT8: {said}, ONNX Runtime" in out
    assert ("held-out" in out) == ("held-out" in said)


HIDDEN = """<ir_version: 8, opset_import: ["": 17, "my": 1]>
g (float[N, 16] x) => (float[K, 24] y) <float limit = {0.1}, bool go = {1}, int64 once = {1}>
{ h = MatMul(x, w1) r = Relu(h) z = MatMul(r, w2) PICK y = MatMul(some, w3) }
"""
# rows of z, or how many there are, where no shape in the graph says that values decide it
PICKS = {
    "If": """m = ReduceMean<axes = [1], keepdims = 0>(z) b = Greater(m, limit)
        all = ReduceSum<keepdims = 0>(z) c = Greater(all, limit)
        some = If (c) <
            then_branch = t () => (float[K, 16] p) { p = Compress<axis = 0>(z, b) },
            else_branch = e () => (float[K, 16] n) { n = Compress<axis = 0>(r, b) }>""",
    "Loop": """a = Abs(z) all = ReduceSum<keepdims = 0>(a) n = Cast<to = 7>(all)
        v = ReduceMean<axes = [0], keepdims = 0>(z)
        last, some = Loop (n, go, v) <body = l (int64 i, bool c, float[16] u)
            => (bool d, float[16] o, float[16] s)
            { d = Identity(c) o = Neg(u) s = Identity(u) }>""",
    "a custom op": "some = my.PickRows(z)",
}
PICK_ROWS = """
import numpy as np
from onnxruntime_extensions import PyOp, onnx_op

@onnx_op(op_type="PickRows", inputs=[PyOp.dt_float], outputs=[PyOp.dt_float])
def pick_rows(x):
    return np.ascontiguousarray(x[x.mean(axis=1) > 0.1])
"""


@pytest.mark.parametrize("where", PICKS)
def test_lengths_that_come_from_values_within_an_op_are_left_out(onnxq, folder, rng, where):
    model = onnx.parser.parse_model(HIDDEN.replace("PICK", PICKS[where]))
    for name, shape in (("w1", (16, 16)), ("w2", (16, 16)), ("w3", (16, 24))):
        weight = rng.standard_normal(shape).astype(np.float32) / 4
        model.graph.initializer.append(from_array(weight, name))
    onnx.save(model, "m.onnx")
    for i in range(16):
        np.save(f"{i}.npy", rng.standard_normal((8, 16)).astype(np.float32))
    (folder / "ops.py").write_text(PICK_ROWS)
    data = ["--calib", *" --calib ".join(f"{i}.npy" for i in range(16)).split()]
    data += ["--ort-extension", "ops.py"] if where == "a custom op" else []
    ran = onnxq("quantize", "m.onnx", *data, "--method", "percentile:80", "-o", "q.onnx")
    assert ran.code == 0, ran.err
    assert "output 'y' is not compared: its length depends on the" in " ".join(ran.out.split())
    for words in (("sensitivity",), ("recipe", "--worst", "0", "-o", "made")):
        ran = onnxq(words[0], "m.onnx", *data, "--method", "percentile:80", *words[1:])
        assert ran.code == 2
        assert "'y' cannot be scored: its length depends on the values" in ran.err
