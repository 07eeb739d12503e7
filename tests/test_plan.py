"""A plan is a value that people read, edit and diff."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxq.errors import PlanError
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

TENSOR, CHANNEL = QuantSpec(), QuantSpec("int8", "channel", 0)
PLAN = Plan(
    model="c0ffee",
    target="tensorrt",
    edges={
        Edge("/stem/Conv", 0): TENSOR,
        Edge("/stem/Conv", 1): CHANNEL,
        Edge("/block/Add", 1): TENSOR,
    },
    rules={"/stem/Conv": "weighted-Conv", "/block/Add": "residual-skip"},
    skipped={"/head/Conv": "few-channels: fewer than 16 channels in or out"},
    source={"/pool_out": "/relu_out"},
    tied=(("a", "b"),),
)
TEXT = """\
kind: onnxq.plan
version: 1
model: c0ffee
target: tensorrt
quantized:
  /stem/Conv:
    rule: weighted-Conv
    inputs:
      0: int8 per-tensor
      1: int8 per-channel axis 0
  /block/Add:
    rule: residual-skip
    inputs:
      1: int8 per-tensor
float:
  /head/Conv: 'few-channels: fewer than 16 channels in or out'
same_values:
  /pool_out: /relu_out
tied:
- - a
  - b
"""


def test_a_plan_reads_like_this():
    assert PLAN.to_yaml() == TEXT


def test_a_plan_survives_the_file(tmp_path):
    PLAN.save(tmp_path / "plan.yaml")
    assert (tmp_path / "plan.yaml").read_text("utf-8") == TEXT
    loaded = Plan.load(tmp_path / "plan.yaml")
    assert loaded == PLAN
    assert list(loaded.edges) == list(PLAN.edges)


NAMES = st.text(min_size=1, max_size=200).filter(lambda s: s.isprintable())


@given(nodes=st.lists(NAMES, unique=True, min_size=1, max_size=4), reason=NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_name_survives_the_file(tmp_path, nodes, reason):
    plan = Plan(
        "m",
        "tensorrt",
        {Edge(n, i): TENSOR for i, n in enumerate(nodes)},
        dict.fromkeys(nodes, reason),
        dict.fromkeys((f"{n}.float" for n in nodes if f"{n}.float" not in nodes), reason),
        dict.fromkeys(nodes, reason),
        (tuple(nodes),),
    )
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan


def test_a_long_name_is_a_plain_key():
    name = "/model" + "/layers.10/attention" * 10 + "/Conv"  # over YAML's 128 for short keys
    plan = Plan("m", "tensorrt", {Edge(name, 0): TENSOR}, {name: "weighted-Conv"})
    assert f"\n  {name}:\n    rule: weighted-Conv\n" in plan.to_yaml()


def test_without_leaves_nodes_float_and_says_why():
    plan = PLAN.without("/stem/Conv", reason="costs 3 dB")
    assert list(plan.edges) == [Edge("/block/Add", 1)]
    assert plan.rules == {"/block/Add": "residual-skip"}
    assert plan.skipped == {**PLAN.skipped, "/stem/Conv": "costs 3 dB"}
    assert PLAN.nodes == ["/stem/Conv", "/block/Add"]  # the plan itself is unchanged


def test_only_leaves_everything_else_float():
    plan = PLAN.only("/block/Add")
    assert plan.nodes == ["/block/Add"]
    assert plan.skipped["/stem/Conv"] == "not selected"
    assert PLAN.only(*PLAN.nodes) == PLAN
    assert PLAN.only().nodes == []


@pytest.mark.parametrize("choose", [PLAN.without, PLAN.only])
def test_a_node_that_the_plan_does_not_quantize_is_named(choose):
    with pytest.raises(PlanError, match=r"quantizes no node '/nope'.*2 nodes, e\.g\. '/stem/Conv'"):
        choose("/stem/Conv", "/nope")


def test_a_plan_of_another_model_is_refused():
    PLAN.check_model("c0ffee")
    with pytest.raises(PlanError, match="made for model c0ffee, this one is decaf"):
        PLAN.check_model("decaf")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: onnxq.plan", "kind: onnxq.run", "expected kind 'onnxq.plan' version 1, found 'onn"),
        ("version: 1", "version: 7", "found 'onnxq.plan' version 7"),
        ("0: int8 per-tensor", "0: int8 per-node", "'/stem/Conv'.*'int8 per-node' is not a spec"),
        ("0: int8 per-tensor", "0: int3 per-tensor", "'/stem/Conv'.*'int3'; choose one of int8"),
        ("axis 0", "axis zero", "'/stem/Conv'.*'int8 per-channel axis zero' is not a spec"),
        ("0: int8 per-tensor", "first: int8 per-tensor", "'/stem/Conv'.*input 'first'"),
        ("model: c0ffee\n", "", "no 'model'"),
        ("  /stem/Conv:\n    rule: weighted-Conv\n", "  /stem/Conv:\n", None),
        ("    inputs:\n      1:", "    ins:\n      1:", "'/block/Add'.*no 'inputs'"),
        ("quantized:", "quantized: [", "is not a plan"),
        ("0: int8 per-tensor", "-1: int8 per-tensor", "'/stem/Conv': input '-1' is not a number"),
        ("target: tensorrt", "target: qnn", "unknown target 'qnn'; choose one of tensorrt, onnxr"),
        ("target: tensorrt", "target: 3", "'target' is 3, not text"),
        ("float:\n", "float:\n  /stem/Conv: mine\n", "'/stem/Conv' is under 'quantized' and under"),
        (
            "float:\n",
            "  /stem/Conv:\n    inputs: {0: int8 per-tensor}\nfloat:\n",
            "stands twice.*line",
        ),
        ("float:\n", "  12:\n    inputs: {0: int8 per-tensor}\nfloat:\n", "is 12, not text; quote"),
        ("float:\n", "flaot: {}\nfloat:\n", "the plan has 'flaot', which is none of kind"),
        ("    rule: weighted-Conv\n", "    rules: x\n", "node '/stem/Conv' has 'rules'"),
        ("tied:", "tied: some\nties:", "'tied' is str|has 'ties'"),
    ],
)
def test_a_mistake_in_an_edited_plan_is_named(tmp_path, old, new, message):
    path = tmp_path / "plan.yaml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new))
    if message is None:
        assert Plan.load(path).rules["/stem/Conv"] == ""
        return
    with pytest.raises(PlanError, match=message) as caught:
        Plan.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "just words", "\x00", "- 1\n- 2\n"])
def test_a_file_that_is_no_plan_is_named(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match=r"plan\.yaml' is not a plan"):
        Plan.load(path)


def test_a_missing_plan_says_how_to_make_one(tmp_path):
    with pytest.raises(PlanError, match=r"'onnxq plan MODEL -o plan\.yaml' makes one"):
        Plan.load(tmp_path / "plan.yaml")


def test_a_plan_without_edges_survives_too(tmp_path):
    Plan("m", "tensorrt", {}).save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == Plan("m", "tensorrt", {})
    assert yaml.safe_load((tmp_path / "plan.yaml").read_text())["quantized"] == {}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (("int3",), "unknown dtype 'int3'; choose one of int8"),
        (("int8", "channel"), "a channel or block spec needs an axis"),
        (("int8", "tensor", 0), "a tensor spec has none"),
        (("int8", "node"), "choose tensor, channel or block"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(spec, message):
    with pytest.raises(PlanError, match=message):
        QuantSpec(*spec)


def test_attribute_ops_are_written_where_there_are_any_and_survive(tmp_path):
    edges, rules = {Edge("conv0", 0): TENSOR}, {"conv0": "attribute-SparseConvolution"}
    plan = Plan("m", "tensorrt", edges, rules, attribute_ops=("SparseConvolution",))
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan
    assert "attribute_ops:\n- SparseConvolution\n" in plan.to_yaml()
    assert "attribute_ops" not in PLAN.to_yaml()


class Counted(dict):
    """A mapping that counts how often it is gone through."""

    passes = 0

    def items(self):
        self.passes += 1
        return super().items()


def test_the_precisions_of_all_nodes_take_one_pass_over_the_edges():
    edges = Counted({Edge(f"n{i}", k): (TENSOR, CHANNEL)[k] for i in range(20) for k in (0, 1)})
    edges[Edge("n0", 1)] = QuantSpec("int4", "channel", 0)
    del edges[Edge("n1", 0)]
    plan = Plan("m", "tensorrt", edges, {"n1": "weighted-Conv"})
    found = [plan.precision(name) for name in (*plan.nodes, "other")]
    assert found == ["INT8 x INT4", "INT8 weights", *["INT8"] * 18, "float"]
    assert edges.passes == 1


@pytest.mark.parametrize("name", ["a\nb", "\x1b]0;x\x07", "\u202ex", "層", "\x85z", "x: y #", "12"])
def test_any_name_survives_and_does_nothing_to_a_terminal(tmp_path, name):
    plan = Plan("m", "tensorrt", {Edge(name, 0): TENSOR}, {name: "weighted-Conv"})
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan
    assert all(map(str.isprintable, plan.to_yaml().split("\n")))


def test_a_plan_nested_too_deep_is_no_plan(tmp_path):
    (tmp_path / "plan.yaml").write_text("[" * 20_000 + "]" * 20_000)
    with pytest.raises(PlanError, match="nested too deep"):
        Plan.load(tmp_path / "plan.yaml")
