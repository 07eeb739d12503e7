"""Choices: what they name, what is refused, and the plans of mixtures."""

import pytest

from onnxq.errors import PlanError
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.search.choices import choices_of, given, palette_of
from onnxq.spec import Edge, QuantSpec
from onnxq.targets.options import PlanOptions

ALL = "int4,int8,float"


def parsed(text, high=None, **options):
    return choices_of(text, high, PlanOptions(**options))


def schemes(choices):
    return {name: scheme.name for name, scheme in choices.quantized.items()}


def test_a_choice_is_a_scheme_by_a_short_name_or_its_own():
    assert schemes(parsed("int8,int4,fp8,w4a16,float")) == {
        "int8": "w8a8", "fp8": "fp8", "int4": "w4a8", "w4a16": "w4a16",
    }  # fmt: skip
    assert schemes(parsed("int8,w8a8,float")) == {"int8": "w8a8"}


def test_without_choices_there_are_the_scheme_and_float():
    choices = parsed(None, scheme="w4a16")
    assert (schemes(choices), choices.leaves_float) == ({"w4a16": "w4a16"}, True)
    assert schemes(parsed(None)) == {"int8": "w8a8"}


def test_the_choices_name_the_type_of_what_stays_float():
    assert parsed("int8,fp16").high == "fp16"
    assert parsed("int8,float", "fp16").high == "fp16"
    assert parsed("int8,float").high == "fp32"


def test_two_quantized_choices_need_no_float():
    assert not parsed("int4,int8").leaves_float


@pytest.mark.parametrize(
    ("choices", "asked", "said"),
    [
        ("int8,int5", None, "unknown choice 'int5'; choose of int8, int4, w8a8"),
        ("int8,fixed88,float", None, "--target tensorrt cannot run choice 'fixed88'; choose of"),
        ("int8,fp16", "fp32", "fp16 and fp32 contradict"),
        ("fp16", None, "quantizes nothing; add one of int8, int4"),
        ("int8", None, "nothing to choose"),
        ("int8,w8a8", None, "nothing to choose"),
    ],
)
def test_choices_that_make_no_sense_are_refused(choices, asked, said):
    with pytest.raises(PlanError) as e:
        parsed(choices, asked)
    assert said in str(e.value)


@pytest.fixture(scope="module")
def source(request):
    path = request.config.rootpath / "fixtures" / "classifier" / "classifier.onnx"
    return steps.prepare(path, Config())


def palette(source, text=ALL, **options):
    config = Config(placement=PlanOptions(**options))
    return palette_of(source, config, choices_of(text, None, config.placement))


def test_one_choice_for_every_node_is_the_plan_of_its_scheme(source):
    mixed = palette(source)
    for choice, scheme in (("int8", "w8a8"), ("int4", "w4a8")):
        plan = mixed.mix(dict.fromkeys(mixed.nodes, choice))
        assert plan == steps.plan(source, Config(placement=PlanOptions(scheme=scheme)))


def test_a_mixture_gives_each_node_what_was_chosen_and_says_why_others_are_float(source):
    found = palette(source)
    chosen = {n: ("int8", "int4", "float")[i % 3] for i, n in enumerate(found.nodes)}
    plan = found.mix(chosen)
    for choice, whole in found.plans.items():
        for node in (n for n, c in chosen.items() if c == choice and n in whole.nodes):
            weight = Edge(node, 1)
            if weight in plan.edges:  # else a node without weights, which the table decides
                assert plan.edges[weight] == whole.edges[weight]
    floats = [n for n, c in chosen.items() if c == "float"]
    assert floats
    assert all(plan.skipped[n] == "left float by the search" for n in floats)
    assert not set(floats) & set(plan.nodes)


def test_a_node_that_a_choice_leaves_as_it_is_has_that_choice_no_more(source):
    found = palette(source)
    by_node = {n: [c for c, p in found.plans.items() if n in p.nodes] for n in found.nodes}
    ops = {node.name: node.op for node in source.graph.nodes}
    assert any(ops[n] == "Add" for n in found.nodes)
    for node, offered in by_node.items():
        weighted = ops[node] in ("Conv", "Gemm", "MatMul")
        assert offered == (["int8", "int4"] if weighted else ["int8"])


def test_the_skip_branch_of_an_add_follows_the_types_of_its_neighbours(source):
    found = palette(source, "int8,fp8,float")
    adds = [n.name for n in source.graph.nodes if n.op == "Add" and n.name in found.nodes]
    convs = [n for n in found.nodes if n not in adds]
    for choice in ("int8", "fp8"):
        chosen = {n: choice for n in convs if n in found.plans[choice].nodes}
        plan = found.mix({**chosen, **dict.fromkeys(adds, "int8")})
        specs = {spec for edge, spec in plan.edges.items() if edge.node in adds}
        assert specs == {QuantSpec(choice)}
        named = found.named(plan, chosen)
        assert {named[n] for n in adds if n in plan.nodes} == {choice}


def test_a_node_with_a_scheme_of_its_own_has_that_or_is_float(source):
    conv = next(n.name for n in source.graph.nodes if n.op == "Conv" and n.inputs[0].inputs)
    found = palette(source, scheme_for=(f"name:{conv}=w8a16",))
    assert [c for c, plan in found.plans.items() if conv in plan.nodes] == ["w8a16"]
    assert found.plans["w8a16"].nodes == [conv]
    plan = found.mix({conv: "w8a16"})
    assert list(plan.edges.items()) == [(Edge(conv, 1), QuantSpec("int8", "channel", 0))]
    assert conv in found.mix({}).skipped


def test_everything_observes_what_every_choice_quantizes(source):
    found = palette(source, "int4,int8,fp8,w4a16,float")
    everything = found.everything
    for plan in found.plans.values():
        assert plan.edges.keys() <= everything.edges.keys()


def test_a_given_plan_is_kept_to_the_letter(source):
    plan = steps.plan(source, Config(placement=PlanOptions(weights="per-tensor")))
    found = given(source.graph, plan)
    assert list(found.plans) == ["int8"]
    assert found.mix(dict.fromkeys(plan.nodes, "int8")) == plan
    first = plan.nodes[0]
    rest = found.mix(dict.fromkeys(plan.nodes[1:], "int8"))
    assert rest.edges == {e: s for e, s in plan.edges.items() if e.node != first}


def test_a_block_size_is_for_the_choices_that_have_blocks(request):
    path = request.config.rootpath / "fixtures" / "transformer" / "transformer.onnx"
    options = PlanOptions(block_size=32)
    config = Config(placement=options)
    source = steps.prepare(path, Config(placement=PlanOptions(scheme="w4a16")))
    found = palette_of(source, config, choices_of("w4a16,int8,float", None, options))
    sizes = {c: {s.block_size for s in plan.edges.values()} for c, plan in found.plans.items()}
    assert 32 in sizes["w4a16"]
    assert sizes["int8"] == {None}
    first, *others = found.plans["w4a16"].nodes
    plan = found.mix({first: "w4a16", **dict.fromkeys(others, "int8")})
    assert {e.node for e, s in plan.edges.items() if s.block_size} <= {first}
    plain = found.mix(dict.fromkeys(found.nodes, "int8"))
    assert not any(s.block_size for s in plain.edges.values())


def test_a_mixture_gives_no_node_a_scheme_that_is_no_choice(request):
    path = request.config.rootpath / "fixtures" / "classifier" / "classifier.onnx"
    options = PlanOptions(target="onnxruntime")
    config = Config(placement=options)
    source = steps.prepare(path, config)
    found = palette_of(source, config, choices_of("int4,float", None, options))
    assert found.mix({}).edges == {}
    for chosen in (dict.fromkeys(found.nodes, "int4"), {found.nodes[0]: "int4"}):
        plan = found.mix(chosen)
        assert plan.edges
        assert set(plan.by_node) <= set(found.nodes)
        assert "uint8" not in {spec.dtype for spec in plan.edges.values()}
