"""What TensorRT says of an engine: names, types, times, and what they come to."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from layer_files import FP16, FP32, INT8, layer, port, residual_block, written

import onnxq
from onnxq.errors import OnnxqError
from onnxq.layers.advice import costs
from onnxq.layers.info import load_layers, type_of
from onnxq.layers.model import model_of
from onnxq.layers.names import named
from onnxq.layers.reading import EngineReading
from onnxq.model import graph as graphs

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "trtexec"
ENGINES = ("mobilenet_qat", "resnet_a100_fp16", "resnet_a100_qat", "resnet_a100_qat_residual",
           "resnet_rtx3090_fp16")  # fmt: skip


@pytest.fixture
def reading(tmp_path):
    def of(skip: str) -> EngineReading:
        layers, profile = residual_block(skip)
        name = type_of(skip)
        return onnxq.read_layers(written(tmp_path, f"{name}.layers.json", layers),
                                 written(tmp_path, f"{name}.profile.json", profile))  # fmt: skip

    return of


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("conv1.weight + QuantizeLinear_7 + Conv_9", ("QuantizeLinear_7", "Conv_9")),
        ("Conv_1 || Conv_2", ("Conv_1", "Conv_2")),
        ("PWN(PWN(/act/Sigmoid), /act/Mul)", ("/act/Sigmoid", "/act/Mul")),
        ("/a/Conv + PWN(PWN(/a/Sigmoid), PWN(/a/Mul))", ("/a/Conv", "/a/Sigmoid", "/a/Mul")),
        ("Conv_1 + PWN(Clip_2 + Add_3)", ("Conv_1", "Clip_2", "Add_3")),
        ("fc.weight + QuantizeLinear_255 + Gemm_257 + fc.bias + (Unnamed Layer* 306) [Shuffle] + "
         "unsqueeze_node_after_fc.bias", ("QuantizeLinear_255", "Gemm_257")),
        ("copied_squeeze_after_(Unnamed Layer* 307) [ElementWise]", ()),
        ("QuantizeLinear_57_clone_1", ("QuantizeLinear_57",)),
        ("Conv_3 [profile 1]", ("Conv_3",)),
        ("odd(name + Relu_1", ("odd(name", "Relu_1")),
    ],
)  # fmt: skip
def test_a_name_says_which_nodes_it_joins(name, nodes):
    assert named(name).nodes == nodes


@pytest.mark.parametrize(
    "metadata",
    [
        "[ONNX Layer: a]\x1f[ONNX Layer: b (x)]", "[ONNX Layer: a]\x1e[ONNX Layer: b (x)]\x1f",
        "[ONNX Layer: a]+[ONNX Layer: b (x)]", "[ONNX Layer: a] + [ONNX Layer: b (x)]",
        "[ONNX Layer: a][ONNX Layer: b (x)]", "[ONNX Layer: a + b (x)]", "a\x1eb (x)",
    ],
    ids=["unit", "record", "plus", "spaced", "bare", "inside", "no-brackets"],
)  # fmt: skip
def test_metadata_lists_nodes_however_they_are_joined(metadata):
    assert named("__myl_Fc_myl0_3", metadata).nodes == ("a", "b (x)")


def test_the_name_tells_where_metadata_has_no_node_of_the_model():
    assert named("a + b", "[ONNX Layer: other]", {"a", "b"}).nodes == ("a", "b")
    assert named("Reformatting CopyNode for Output Tensor 0 to {ForeignNode[a...b]}").beside == ()


def test_a_range_is_not_guessed_unless_metadata_lists_it():
    hidden = "{ForeignNode[/a/Conv.../z/Add]}"
    assert named(hidden) == named("__myl_ConvAdd_0x12")
    assert named(hidden).hidden
    assert not named(hidden).nodes
    listed = named(hidden, "[ONNX Layer: /a/Conv]\x1f[ONNX Layer: /z[0]/Add]\x1e[ONNX Layer: q]")
    assert listed.nodes == ("/a/Conv", "/z[0]/Add", "q")
    assert not listed.hidden


def test_a_copy_names_the_node_that_it_is_for():
    said = named("Reformatting CopyNode for Input Tensor 1 to Conv_5 + Add_6")
    assert (said.nodes, said.beside) == ((), ("Conv_5", "Add_6"))


def test_names_that_are_known_alone_count():
    known = {"w.QuantizeLinear", "/Conv"}
    assert named("some.thing + w.QuantizeLinear + /Conv + Relu_1", known=known).nodes == (
        "w.QuantizeLinear", "/Conv")  # fmt: skip


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        (INT8, "int8"), (FP16, "fp16"), (FP32, "fp32"), ("Row major linear INT32", "int32"),
        ("Row major linear BFloat16", "bf16"), ("FP8 E4M3 format", "fp8"), ("Half", "fp16"),
        ("N/A due to dynamic shapes", "?"), ("Row major linear UInt8 format", "uint8"),
    ],
)  # fmt: skip
def test_types_are_read_off_descriptions(described, kind):
    assert type_of(described) == kind


def test_times_of_nodes_and_copies_add_up(reading):
    found = reading(FP16)
    nodes = math.fsum(node.ms or 0 for node in found.nodes.values())
    assert found.total_ms == pytest.approx(0.25 * 15)
    assert nodes + math.fsum(c.ms for c in found.copies) == pytest.approx(found.total_ms)
    assert found.nodes["Conv_4"].ms == 0.75
    assert found.nodes["Relu_6"].ms == 0
    assert found.nodes["Conv_4"].precision == "int8"
    assert found.as_dict()["nodes"]["Conv_4"]["share"] == pytest.approx(0.2)


def test_a_float_skip_branch_costs_a_conversion_and_an_int8_one_does_not(reading):
    slow, fast = reading(FP16), reading(INT8)
    (residual,) = slow.residuals
    assert (residual.node, residual.skip, residual.out, residual.copy_ms) == (
        "Add_5", "fp16", "fp16", 1.0)  # fmt: skip
    (residual,) = fast.residuals
    assert (residual.skip, residual.out, residual.copy_ms) == ("int8", "int8", 0)
    advice = {cost.layer: cost.change for cost in costs(slow)}
    assert "Add_5 adds a fp16 branch" in advice["QuantizeLinear_8"]
    assert "what the network is given" in advice["QuantizeLinear_0"]
    assert not any("Add_5" in cost.change for cost in costs(fast))


def test_two_engines_are_compared_node_by_node(reading):
    found = onnxq.compare_layers(reading(FP16), reading(INT8))
    assert found.by == "names"
    assert math.fsum(g.change_ms for g in found.groups) == pytest.approx(
        found.b.total_ms - found.a.total_ms)  # fmt: skip
    (group,) = (g for g in found.groups if g.nodes == ("Conv_9",))
    assert "-1 conversions (-1.0000 ms)" in group.why


def test_nodes_of_other_names_are_matched_by_what_they_multiply(tmp_path):
    def engine(name: str, node: str, weights: str, described: str, ms: float) -> EngineReading:
        layers = [
            layer(node, reads=(port("x", described),), writes=(port("y", described),),
                  weights=weights)]  # fmt: skip
        return onnxq.read_layers(
            written(tmp_path, f"{name}.json", {"Layers": layers}),
            written(tmp_path, f"{name}.times.json", [{"name": node, "averageMs": ms}]))  # fmt: skip

    half, low = engine("a", "Conv_0", "Half", FP16, 1), engine("b", "Conv_9", "Int8", INT8, 1.5)
    found = onnxq.compare_layers(half, low)
    assert found.by == "geometry"
    assert found.slower == ["Conv_9"]
    assert found.skip_list() == "name:Conv_9\n"
    assert found.groups[0].why == "fp16 -> int8"
    assert onnxq.compare_layers(low, half).slower == []


def test_the_plan_is_held_against_what_runs(tmp_path, classifier_int8):
    meant = model_of(graphs.load(classifier_int8)).meant
    first, second, *others = meant
    layers = [layer(n, reads=(port("x", INT8),), writes=(port("y", INT8),), weights="Int8",
                    Metadata=f"[ONNX Layer: {n}]") for n in others]  # fmt: skip
    layers.append(
        layer(second, reads=(port("x", FP16),), writes=(port("y", FP16),), weights="Half")
    )
    layers.append(layer("{ForeignNode[a...b]}", "Myelin"))
    path = written(tmp_path, "layers.json", {"Layers": layers})
    found = onnxq.read_layers(path, model=classifier_int8)
    covered = found.coverage()
    assert (covered["meant"], covered["covered"], covered["unknown"]) == (
        len(meant), len(others), 1)  # fmt: skip
    assert first not in found.nodes
    assert len(found.hidden) == 1
    with pytest.raises(OnnxqError, match="no node of"):
        onnxq.read_layers(written(tmp_path, "b.json", {"Layers": [layer("Conv_z")]}),
                          model=classifier_int8)  # fmt: skip


@pytest.fixture(scope="module")
def classifier_int8(tmp_path_factory):
    folder = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"
    path = tmp_path_factory.mktemp("int8") / "classifier.int8.onnx"
    onnxq.quantize(folder / "classifier.onnx", folder / "calib.npy", samples=2, recover="none",
                   check_samples=1).save(path)  # fmt: skip
    return path


def test_names_alone_are_read_and_types_stay_unknown(tmp_path):
    path = written(tmp_path, "l.json", {"Layers": ["Conv_0 + Relu_1", "Conv_2"], "Bindings": ["x"]})
    found = onnxq.read_layers(path)
    assert not found.info.detailed
    assert found.nodes["Conv_0"].precision == "?"
    assert found.as_dict()["total_ms"] is None


def test_layers_of_one_name_have_their_times_in_order(tmp_path):
    layers = [layer("a"), layer("b"), layer("a")]
    times = [{"name": "a", "averageMs": 1}, {"name": "b", "averageMs": 2},
             {"name": "a", "averageMs": 3}, {"name": "more", "averageMs": 0.5}]  # fmt: skip
    found = onnxq.read_layers(written(tmp_path, "l.json", layers),
                              written(tmp_path, "t.json", times))  # fmt: skip
    assert [t.ms for t in found.timed] == [1, 2, 3]
    assert (found.total_ms, found.lost_ms) == (6.5, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("{", "not JSON of TensorRT"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "lists no layers"),
        ('{"Layers": []}', "lists no layers"),
        ('{"Layers": [1, 2]}', "lists no layers"),
        ('{"Layers": [{"Name": "a", "Inputs": [3]}]}', "a layer that TensorRT would not write"),
        ('[{"count": 1}, {"name": "a", "averageMs": 1}]', "give it as --profile"),
    ],
    ids=["empty", "cut", "deep", "list", "none", "numbers", "ports", "profile"],
)
def test_what_is_no_layer_info_is_said_in_one_line(tmp_path, text, said):
    path = tmp_path / "layers.json"
    path.write_text(text, "utf-8")
    with pytest.raises(OnnxqError, match=said) as e:
        load_layers(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([{"count": 3}], "no times"),
        ([{"name": "a", "averageMs": "NaN"}], "not the time of a layer"),
        ([{"name": "a", "averageMs": -1}], "not the time of a layer"),
        ([{"name": "a", "averageMs": 1e308}], "not the time of a layer"),
        ([{"count": 9}, {"name": "a", "averageMs": 0}], "each is 0 milliseconds"),
        ([{"count": "a"}, {"name": "a", "timeMs": 1}], "it is of a runs"),
        ([{"count": 0}, {"name": "a", "timeMs": 1}], "it is of 0 runs"),
        ([{"name": "a"}], "not the time of a layer"),
        ({"Layers": ["a"]}, "give it as LAYERS"),
        ([{"name": "z", "averageMs": 1}], "of another engine"),
    ],
    ids=[
        "none",
        "nan",
        "negative",
        "huge",
        "zero",
        "count",
        "no-runs",
        "missing",
        "layers",
        "other",
    ],
)
def test_what_is_no_profile_is_said_in_one_line(tmp_path, document, said):
    layers = written(tmp_path, "l.json", {"Layers": [layer("a")]})
    with pytest.raises(OnnxqError, match=said):
        onnxq.read_layers(layers, written(tmp_path, "p.json", document))


@pytest.mark.skipif(not SHARED.is_dir(), reason="there are no layer infos of real engines")
@pytest.mark.parametrize("name", ENGINES)
def test_real_engines_are_read_whole(name):
    profile = SHARED / f"{name}.profile.json"
    found = onnxq.read_layers(SHARED / f"{name}.layers.json", profile)
    own = math.fsum(node.ms or 0 for node in found.nodes.values())
    rest = math.fsum(t.ms or 0 for t in (*found.copies, *found.own))
    listed = [x["averageMs"] for x in json.loads(profile.read_text("utf-8")) if "name" in x]
    assert found.total_ms == pytest.approx(math.fsum(listed))
    assert own + rest == pytest.approx(found.total_ms)
    assert not found.hidden


@pytest.mark.skipif(not SHARED.is_dir(), reason="there are no layer infos of real engines")
def test_residual_adds_of_real_engines_are_told_apart():
    pair = [
        onnxq.read_layers(SHARED / f"{name}.layers.json", SHARED / f"{name}.profile.json")
        for name in ("resnet_a100_qat", "resnet_a100_qat_residual")
    ]
    plain, quantized = pair
    assert {r.skip for r in plain.residuals} == {"fp16"}
    assert sum(r.copy_ms for r in plain.residuals) == pytest.approx(0.1362, abs=1e-4)
    assert [r.skip for r in quantized.residuals].count("int8") == 7
    found = onnxq.compare_layers(*pair)
    assert found.speedup == pytest.approx(1.4986, abs=1e-3)
