"""Placement for TensorRT, rule by rule: what is quantized, how, and why not."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.passes.prepare import prepare
from onnxq.spec import Edge, QuantSpec
from onnxq.targets.float_rules import FLOAT_RULES
from onnxq.targets.options import PlanOptions
from onnxq.targets.tensorrt import plan

TENSOR = QuantSpec()
CONV3 = "Conv<pads = [1, 1, 1, 1]>"


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channel(axis):
    return QuantSpec("int8", "channel", axis)


def conv(channels_out=16, channels_in=16, kernel=3, seed=0):
    return floats(channels_out, channels_in, kernel, kernel, seed=seed)


@pytest.fixture
def planned(graph_of):
    """The plan of a model in ONNX text, after the prepare passes."""

    def make(body, weights=None, options=None, opset=17):
        graph = prepare(graph_of(body, weights, opset))
        return plan(graph, options or PlanOptions(), "hash")

    return make


def specs(made, node):
    return {e.input: s for e, s in made.edges.items() if e.node == node}


WEIGHTED = {
    "Conv": (
        "(float[N,16,8,8] x) => (float[N,32,6,6] y) {[op] y = Conv(x, w)}",
        {"w": conv(32)},
        {0: TENSOR, 1: channel(0)},
    ),
    "depthwise Conv": (
        "(float[N,32,8,8] x) => (float[N,32,6,6] y) {[op] y = Conv<group = 32>(x, w)}",
        {"w": conv(32, 1)},
        {0: TENSOR, 1: channel(0)},
    ),
    "grouped Conv with 4 channels a group": (
        "(float[N,16,8,8] x) => (float[N,16,6,6] y) {[op] y = Conv<group = 4>(x, w)}",
        {"w": conv(16, 4)},
        {0: TENSOR, 1: channel(0)},
    ),
    "Conv in one dimension": (
        "(float[N,16,8] x) => (float[N,32,6] y) {[op] y = Conv(x, w)}",
        {"w": floats(32, 16, 3)},
        {0: TENSOR, 1: channel(0)},
    ),
    "Gemm": (
        "(float[N,32] x) => (float[N,16] y) {[op] y = Gemm(x, w, b)}",
        {"w": floats(32, 16), "b": floats(16)},
        {0: TENSOR, 1: channel(1)},
    ),
    "Gemm transB": (
        "(float[N,32] x) => (float[N,16] y) {[op] y = Gemm<transB = 1>(x, w, b)}",
        {"w": floats(16, 32), "b": floats(16)},
        {0: TENSOR, 1: channel(0)},
    ),
    "MatMul": (
        "(float[N,9,32] x) => (float[N,9,16] y) {[op] y = MatMul(x, w)}",
        {"w": floats(32, 16)},
        {0: TENSOR, 1: channel(1)},
    ),
    "MatMul with a batched weight": (
        "(float[2,9,32] x) => (float[2,9,16] y) {[op] y = MatMul(x, w)}",
        {"w": floats(2, 32, 16)},
        {0: TENSOR, 1: TENSOR},  # with scales per channel ONNX Runtime refuses it when it runs
    ),
    "MatMul with a constant on the left": (
        "(float[32,16] x) => (float[32,16] y) {[op] y = MatMul(w, x)}",
        {"w": floats(32, 32)},
        {0: TENSOR, 1: TENSOR},
    ),
    "MatMul of two activations": (
        "(float[N,32,64] x, float[N,64,32] k) => (float[N,32,32] y) {[op] y = MatMul(x, k)}",
        {},
        {0: TENSOR, 1: TENSOR},
    ),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_every_input_is_quantized_but_the_bias(planned, name):
    body, weights, expected = WEIGHTED[name]
    made = planned(body, weights)
    assert specs(made, "op") == expected
    op = next(op for op in ("Conv", "Gemm", "MatMul") if op in name)
    assert made.rules == {"op": f"weighted-{op}"}
    assert made.skipped == {}


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_can_be_per_tensor(planned, name):
    body, weights, expected = WEIGHTED[name]
    made = planned(body, weights, PlanOptions(weights="per-tensor"))
    assert specs(made, "op") == dict.fromkeys(expected, TENSOR)


# rule -> models that it leaves float
FLOAT = {
    "not-float": [
        ("(int32[M,32] x, int32[32,N] w) => (int32[M,N] y) {[op] y = MatMul(x, w)}", {}),
        ("(double[N,32] x) => (double[N,16] y) {[op] y = MatMul(x, w)}",
         {"w": floats(32, 16).astype(np.float64)}),
    ],
    "computed-weight": [
        ("(float[N,16,8,8] x, float[16,16,3,3] w) => (float[N,16,6,6] y) {[op] y = Conv(x, w)}",
         {}),
    ],
    "other-codes": [
        ("(float[N,32] x) => (float[N,16] y) "
         "{w = DequantizeLinear<axis = 1>(q, s, z) [op] y = MatMul(x, w)}",
         {"q": np.ones((32, 16), np.uint8), "s": np.ones(16, np.float32),
          "z": np.zeros(16, np.uint8)}),
        ("(float[N,32] x) => (float[N,16] y) "
         "{w = DequantizeLinear(q, s, z) [op] y = MatMul(x, w)}",
         {"q": np.ones((32, 16), np.int8), "s": np.float32(1), "z": np.int8(3)}),
    ],
    "deconv": [
        ("(float[N,16,8,8] x) => (float[N,16,16,16] y) "
         "{[op] y = ConvTranspose<strides = [2, 2]>(x, w)}", {"w": conv(16, 16, 2)}),
    ],
    "few-channels": [
        ("(float[N,32,8,8] x) => (float[N,6,6,6] y) {[op] y = Conv(x, w)}", {"w": conv(6, 32)}),
        ("(float[N,8,8,8] x) => (float[N,32,8,8] y) {r = ConvTranspose(x, v) [op] y = Conv(r, w)}",
         {"v": conv(8, 6), "w": conv(32, 6)}),
    ],
    "ragged-groups": [
        ("(float[N,24,8,8] x) => (float[N,24,6,6] y) {[op] y = Conv<group = 4>(x, w)}",
         {"w": conv(24, 6)}),
        ("(float[N,16,8,8] x) => (float[N,32,6,6] y) {[op] y = Conv<group = 16>(x, w)}",
         {"w": conv(32, 1)}),
    ],
    "small-depthwise": [],  # in half precision alone, below
    "matrix-vector": [
        ("(float[1,32] x) => (float[1,16] y) {[op] y = Gemm(x, w)}", {"w": floats(32, 16)}),
        ("(float[32] x) => (float[16] y) {[op] y = MatMul(x, w)}", {"w": floats(32, 16)}),
        ("(float[N,32] x) => (float[N] y) {[op] y = MatMul(x, w)}", {"w": floats(32)}),
        ("(float[N,16,1,1] x) => (float[N,16,1,1] y) {[op] y = Conv(x, w)}",
         {"w": conv(16, 16, 1)}),
    ],
    "narrow-product": [
        ("(float[N,32] x) => (float[N,10] y) {[op] y = Gemm(x, w)}", {"w": floats(32, 10)}),
        ("(float[N,9,8] x) => (float[N,9,32] y) {[op] y = MatMul(x, w)}", {"w": floats(8, 32)}),
        ("(float[N,9,64] x, float[N,64,9] k) => (float[N,9,9] y) {[op] y = MatMul(x, k)}", {}),
    ],
}  # fmt: skip


def test_every_rule_of_the_table_has_an_example():
    assert list(FLOAT) == [rule.name for rule in FLOAT_RULES]


@pytest.mark.parametrize(
    ("rule", "body", "weights"),
    [(rule, *example) for rule, examples in FLOAT.items() for example in examples],
)
def test_a_weighted_op_stays_float_with_its_reason(planned, rule, body, weights):
    made = planned(body, weights)
    assert made.edges == {}
    assert made.skipped["op"].startswith(f"{rule}: ")


def test_of_a_weight_that_is_quantized_already_only_the_other_input_is_quantized(planned):
    body = ("(float[N,32] x) => (float[N,16] y) "
            "{w = DequantizeLinear<axis = 1>(q, s) [op] y = MatMul(x, w)}")  # fmt: skip
    weights = {"q": np.ones((32, 16), np.int8), "s": np.ones(16, np.float32)}
    made = planned(body, weights)
    assert specs(made, "op") == {0: TENSOR}
    assert (made.rules, made.precision("op")) == ({"op": "stored-weight"}, "INT8")
    for scheme in ("w8a16", "fp8"):
        assert planned(body, weights, PlanOptions(scheme=scheme)).edges == {}


@pytest.mark.parametrize(("window", "stays"), [(1, True), (2, True), (3, False), (5, False)])
def test_a_small_depthwise_conv_stays_float_in_half_precision(planned, window, stays):
    body = "(float[N,32,8,8] x) => (float[N,32,h,w] y) {[op] y = Conv<group = 32>(x, w)}"
    weights = {"w": conv(32, 1, window)}
    assert planned(body, weights).nodes == ["op"]
    half = planned(body, weights, PlanOptions(high_precision="fp16"))
    assert half.skipped.get("op", "").startswith("small-depthwise: ") == stays
    assert half.nodes == ([] if stays else ["op"])


@pytest.mark.parametrize(
    "steps",
    [
        "a = Sub(x, c) p = Div(a, c)",
        "p = Mul(x, c)",
        "a = Cast<to = 1>(x) p = Transpose<perm = [0, 1, 3, 2]>(a)",
        "p = Pad(x, pads)",
        "a = Relu(x) b = Neg(x) p = Add(a, b)",
    ],
)
def test_it_is_the_first_however_its_input_is_preprocessed_in_the_graph(planned, steps):
    body = f"(float[N,3,8,8] x) => (float[N,32,h,w] y) {{{steps} [op] y = Conv(p, w)}}"
    extra = {"c": floats(1, 3, 1, 1), "pads": np.array((0, 0, 1, 1) * 2, np.int64)}
    weights = {name: values for name, values in extra.items() if name in steps}
    assert planned(body, {"w": conv(32, 3), **weights}).nodes == ["op"]


def test_the_first_layer_may_have_few_channels_in(planned):
    body = "(float[N,3,8,8] x) => (float[N,32,6,6] y) {[op] y = Conv(x, w)}"
    assert planned(body, {"w": conv(32, 3)}).nodes == ["op"]
    behind = body.replace("{[op]", "{t = Transpose<perm = [0, 1, 3, 2]>(x) [op]").replace(
        "Conv(x", "Conv(t"
    )
    assert planned(behind, {"w": conv(32, 3)}).nodes == ["op"]
    assert planned(body.replace("32", "6"), {"w": conv(6, 3)}).nodes == []


def test_how_few_channels_are_too_few_can_be_said(planned):
    body, weights = FLOAT["few-channels"][0]
    assert planned(body, weights, PlanOptions(min_channels=6)).nodes == ["op"]
    made = planned(body, weights, PlanOptions(min_channels=64))
    assert made.skipped["op"] == "few-channels: fewer than 64 channels in or out"


def test_the_dfl_convolution_of_a_detector_stays_float(planned):
    made = planned(
        """(float[N,64,100] x) => (float[N,4,100] y) {
            r = Reshape(x, s) t = Transpose<perm = [0, 2, 1, 3]>(r)
            p = Softmax<axis = 1>(t) [dfl] c = Conv(p, w) y = Reshape(c, e)
        }""",
        {"s": np.array([0, 4, 16, 100]), "e": np.array([0, 4, 100]),
         "w": np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)},
    )  # fmt: skip
    assert made.nodes == []
    assert made.skipped["dfl"].startswith("few-channels")


def test_squeeze_and_excite_stays_float(planned):
    made = planned(
        """(float[N,32,8,8] x) => (float[N,32,8,8] y) {
            g = GlobalAveragePool(x) [down] d = Conv(g, v) r = Relu(d) [up] u = Conv(r, w)
            s = Sigmoid(u) m = Mul(x, s) [op] y = Conv(m, o)
        }""",
        {"v": conv(16, 32, 1), "w": conv(32, 16, 1), "o": conv(32, 32, 1)},
    )
    assert made.nodes == ["op"]
    assert made.skipped["down"].startswith("matrix-vector")
    assert made.skipped["up"].startswith("matrix-vector")


@pytest.mark.parametrize(
    ("deconv", "expected"), [("per-tensor", TENSOR), ("per-channel", channel(1))]
)
def test_a_deconvolution_is_quantized_if_asked(planned, deconv, expected):
    body, weights = FLOAT["deconv"][0]
    made = planned(body, weights, PlanOptions(deconv=deconv))
    assert specs(made, "op") == {0: TENSOR, 1: expected}
    assert made.rules["op"] == "weighted-ConvTranspose"


def test_a_grouped_deconvolution_has_one_scale_for_its_weight(planned):
    body, _ = FLOAT["deconv"][0]
    made = planned(
        body.replace("<strides", "<group = 4, strides"), {"w": conv(16, 4, 2)},
        PlanOptions(deconv="per-channel"),
    )  # fmt: skip
    assert specs(made, "op") == {0: TENSOR, 1: TENSOR}


def test_attention_is_quantized_on_both_inputs_of_both_products(planned):
    made = planned(
        """(float[N,32,64] q, float[N,32,64] k, float[N,32,64] v) => (float[N,32,64] y) {
            t = Transpose<perm = [0, 2, 1]>(k) [qk] s = MatMul(q, t) p = Softmax(s)
            [pv] y = MatMul(p, v)
        }"""
    )
    assert specs(made, "qk") == specs(made, "pv") == {0: TENSOR, 1: TENSOR}
    assert made.source == {"t": "k"}


def test_weighted_ops_of_other_domains_are_left_alone(planned):
    body = "(float[N,32] x) => (float[N,16] y) {[op] y = my.MatMul(x, w)}"
    made = planned(body, {"w": floats(32, 16)})
    assert (made.edges, made.skipped) == ({}, {})


RESIDUAL = f"""(float[N,16,8,8] x) => (float[N,16,8,8] y) {{
    [stem] s = {CONV3}(x, u) a = Relu(s)
    [one] b = {CONV3}(a, v) c = Relu(b) [two] d = {CONV3}(c, w)
    [add] e = ADD r = Relu(e) [head] y = {CONV3}(r, o)
}}"""
RESIDUAL_WEIGHTS = {n: conv(seed=i) for i, n in enumerate("uvwo")}
SKIP = PlanOptions(residual="skip")


@pytest.mark.parametrize(("add", "skip"), [("Add(d, a)", 1), ("Add(a, d)", 0)])
def test_the_skip_branch_of_a_residual_add_reads_the_quantized_tensor(planned, add, skip):
    made = planned(RESIDUAL.replace("ADD", add), RESIDUAL_WEIGHTS, SKIP)
    assert specs(made, "add") == {skip: TENSOR}
    assert made.rules["add"] == "residual-skip"
    assert made.nodes == ["stem", "one", "two", "head", "add"]


def test_the_skip_branch_stays_float_if_asked(planned):
    float_skip = PlanOptions(residual="float")
    made = planned(RESIDUAL.replace("ADD", "Add(d, a)"), RESIDUAL_WEIGHTS, float_skip)
    assert specs(made, "add") == {}


def test_a_residual_add_that_is_named_stays_float(planned):
    options = PlanOptions(residual="skip", skip=("add",))
    made = planned(RESIDUAL.replace("ADD", "Add(d, a)"), RESIDUAL_WEIGHTS, options)
    assert specs(made, "add") == {}
    assert made.skipped == {"add": "--skip add"}


NO_RESIDUAL = {
    "the last Conv is left float": (RESIDUAL.replace("ADD", "Add(d, a)"), ("two", "one", "stem")),
    "the Conv has a second reader": (
        RESIDUAL.replace("ADD", "Add(d, a) f = Neg(d)").replace("(r, o)", "(f, o)"), (),
    ),
    "the skip tensor is not quantized otherwise": (
        RESIDUAL.replace("ADD", "Add(d, n)").replace("a = Relu(s)", "a = Relu(s) n = Neg(s)"), (),
    ),
    "the Conv is doubled": (RESIDUAL.replace("ADD", "Add(d, d)"), ()),
    "the Add is of a constant": (RESIDUAL.replace("ADD", "Add(d, k)"), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_RESIDUAL)
def test_an_add_is_not_quantized_where(planned, name):
    body, skip = NO_RESIDUAL[name]
    weights = {**RESIDUAL_WEIGHTS, "k": floats(1, 16, 8, 8)}
    made = planned(body, weights, PlanOptions(residual="skip", skip=skip))
    assert specs(made, "add") == {}


def test_a_projection_shortcut_gains_nothing_from_q(planned):
    made = planned(
        f"""(float[N,16,8,8] x) => (float[N,16,8,8] y) {{
            [stem] s = {CONV3}(x, u) a = Relu(s)
            [main] b = {CONV3}(a, v) [short] c = {CONV3}(a, w) [add] y = Add(b, c)
        }}""",
        RESIDUAL_WEIGHTS,
        SKIP,
    )
    assert specs(made, "add") == {}


def test_chained_adds_read_the_skip_tensor_once_each(planned):
    made = planned(
        f"""(float[N,16,8,8] x) => (float[N,16,8,8] y) {{
            [stem] a = {CONV3}(x, u)
            [one] b = {CONV3}(a, v) [add1] c = Add(b, a)
            [two] d = {CONV3}(c, w) [add2] e = Add(d, c) [head] y = {CONV3}(e, o)
        }}""",
        RESIDUAL_WEIGHTS,
        SKIP,
    )
    assert specs(made, "add1") == specs(made, "add2") == {1: TENSOR}


CONCAT = f"""(float[N,16,8,8] x) => (float[N,16,8,8] y) {{
    [one] a = {CONV3}(x, u) [two] b = {CONV3}(x, v)
    [cat] c = Concat<axis = 1>(a, b) [head] y = {CONV3}(c, w)
}}"""
CONCAT_WEIGHTS = {"u": conv(), "v": conv(seed=1), "w": conv(16, 32), "o": conv(16, 48)}


def test_a_concat_is_quantized_at_its_reader_alone(planned):
    made = planned(CONCAT, CONCAT_WEIGHTS, PlanOptions(concat="float"))
    assert made.nodes == ["one", "two", "head"]
    assert made.tied == ()


def test_the_branches_of_a_concat_can_share_a_scale(planned):
    made = planned(CONCAT, CONCAT_WEIGHTS, PlanOptions(concat="share"))
    assert specs(made, "cat") == {0: TENSOR, 1: TENSOR}
    assert made.rules["cat"] == "concat-share"
    assert made.tied == (("a", "b", "c"),)


def test_the_branches_of_a_concat_can_have_a_scale_each(planned):
    made = planned(CONCAT, CONCAT_WEIGHTS, PlanOptions(concat="requant"))
    assert specs(made, "cat") == {0: TENSOR, 1: TENSOR}
    assert made.rules["cat"] == "concat-requant"
    assert made.tied == ()


def test_a_concat_that_is_named_stays_float(planned):
    made = planned(CONCAT, CONCAT_WEIGHTS, PlanOptions(concat="share", skip=("cat",)))
    assert specs(made, "cat") == {}
    assert (made.tied, made.skipped) == ((), {"cat": "--skip cat"})


def test_a_concat_that_nothing_quantized_reads_is_left_alone(planned):
    body = CONCAT.replace(f"y = {CONV3}(c, w)", "y = Softmax(c)").replace("[head]", "")
    made = planned(body, CONCAT_WEIGHTS, PlanOptions(concat="share"))
    assert specs(made, "cat") == {}


def test_a_constant_branch_of_a_concat_is_not_an_activation(planned):
    body = CONCAT.replace("(a, b)", "(a, k)").replace("[two]", "")
    weights = {**CONCAT_WEIGHTS, "k": floats(1, 16, 8, 8)}
    made = planned(body.replace("float[N", "float[1"), weights, PlanOptions(concat="share"))
    assert specs(made, "cat") == {0: TENSOR}
    assert made.tied == (("a", "c"),)


def test_groups_name_the_tensors_that_ranges_are_observed_on(planned):
    made = planned(
        f"""(float[N,16,8,8] x) => (float[N,16,16,16] y) {{
            [one] a = {CONV3}(x, u) t = Transpose<perm = [0, 1, 3, 2]>(a) [two] b = {CONV3}(x, v)
            [cat] c = Concat<axis = 1>(t, b) r = Resize<mode = "nearest">(c, , s)
            [head] y = {CONV3}(r, w)
        }}""",
        {**CONCAT_WEIGHTS, "s": np.array([1, 1, 2, 2], np.float32)},
        PlanOptions(concat="share"),
    )
    assert made.tied == (("a", "b", "r"),)
    assert made.source == {"t": "a"}


def test_concats_that_share_a_branch_or_feed_each_other_share_one_scale(planned):
    made = planned(
        f"""(float[N,16,8,8] x) => (float[N,16,8,8] y, float[N,16,8,8] z) {{
            [one] a = {CONV3}(x, u) [two] b = {CONV3}(x, v)
            [cat1] c = Concat<axis = 1>(a, b) [cat2] d = Concat<axis = 1>(c, x)
            [p] y = {CONV3}(d, o) [cat3] e = Concat<axis = 1>(b, x) [q] z = {CONV3}(e, w)
        }}""",
        CONCAT_WEIGHTS,
        PlanOptions(concat="share"),
    )
    assert [set(group) for group in made.tied] == [set("abcdex")]
    assert {"cat1", "cat2", "cat3"} <= set(made.nodes)


def test_an_inner_concat_of_a_float_concat_stays_float_too(planned):
    made = planned(
        f"""(float[N,16,8,8] x) => (float[N,16,8,8] y) {{
            [one] a = {CONV3}(x, u) [two] b = {CONV3}(x, v)
            [cat1] c = Concat<axis = 1>(a, b) [cat2] d = Concat<axis = 1>(c, x)
            [p] y = {CONV3}(d, o)
        }}""",
        CONCAT_WEIGHTS,
        PlanOptions(concat="share", skip=("cat2",)),
    )
    assert not {"cat1", "cat2"} & set(made.nodes)


def test_tensors_that_hold_the_same_values_have_one_source(planned):
    made = planned(
        """(float[N,16,8,8] x) => (float[N,16,8,8] y, float[N,16,6,6] z, float[N,16,2,2] k) {
            t = Transpose<perm = [0, 1, 3, 2]>(x) [one] y = Conv<pads = [1, 1, 1, 1]>(t, u)
            [two] z = Conv(x, v) m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(t)
            [three] k = Conv(m, w)
        }""",
        {n: conv(seed=i) for i, n in enumerate("uvw")},
    )
    assert made.source == {"t": "x", "m": "x"}


def test_values_chosen_from_a_tensor_that_is_not_quantized_have_a_range_of_their_own(planned):
    made = planned(
        """(float[N,16,8,8] x) => (float[N,16,2,2] y) {
            n = Neg(x) m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(n) [op] y = Conv(m, w)
        }""",
        {"w": conv()},
    )
    assert made.source == {}


def test_the_plan_is_the_same_each_time_and_says_what_it_is_for(planned):
    body = RESIDUAL.replace("ADD", "Add(d, a)")
    first, second = (planned(body, RESIDUAL_WEIGHTS).to_yaml() for _ in range(2))
    assert first == second
    assert first.startswith("kind: onnxq.plan\nversion: 1\nmodel: hash\ntarget: tensorrt\n")


def test_every_weighted_op_is_in_the_plan_or_has_a_reason(planned):
    options = PlanOptions(skip=("one",), residual="skip")
    made = planned(RESIDUAL.replace("ADD", "Add(d, a)"), RESIDUAL_WEIGHTS, options)
    assert set(made.nodes) | set(made.skipped) >= {"stem", "one", "two", "head"}
    assert not set(made.nodes) & set(made.skipped)
    assert set(made.rules) == set(made.nodes)
    assert Edge("one", 0) not in made.edges


BRANCHES = """(bool c, float[N,32] x) => (float[N,16] y) {
    y = If(c) <
        then_branch = yes () => (float[N,16] a) { [in] a = MatMul(x, w) },
        else_branch = no () => (float[N,16] b) { r = Relu(x) [deep] b = MatMul(r, v) }
    >
}"""
BRANCH_WEIGHTS = {"w": floats(32, 16), "v": floats(32, 16)}


def test_in_a_branch_only_what_reads_a_tensor_from_outside_has_a_range(planned):
    made = planned(BRANCHES, BRANCH_WEIGHTS)
    assert list(made.edges) == [Edge("in", 0), Edge("in", 1)]
    assert list(made.skipped) == ["deep"]
    assert made.skipped["deep"].startswith("in-branch: what it reads is computed inside")


def test_in_a_branch_weights_alone_need_no_range(planned):
    made = planned(BRANCHES, BRANCH_WEIGHTS, PlanOptions(scheme="w4a16"))
    assert list(made.edges) == [Edge("in", 1), Edge("deep", 1)]


def test_ops_in_a_branch_are_named_by_patterns(planned):
    made = planned(BRANCHES, BRANCH_WEIGHTS, PlanOptions(skip=("in",)))
    assert made.nodes == []
    assert made.skipped["in"] == "--skip in"
