"""Two quantized models side by side."""

from dataclasses import replace

import onnx
import pytest

from onnxq.errors import DataError
from onnxq.report.html.content import content
from onnxq.report.html.gathering import Sources, gather


@pytest.fixture(scope="module")
def pair(centerpoint, tmp_path_factory):
    """The fixture twice, with manifests."""
    folder = tmp_path_factory.mktemp("pair")
    centerpoint.save(folder / "a.onnx")
    centerpoint.save(folder / "b.onnx")
    return folder


def test_a_model_beside_itself_has_no_difference(pair):
    found = content(gather(pair / "a.onnx", Sources(compare=pair / "b.onnx")))["against"]
    assert found["names"] == ["a.onnx", "b.onnx"]
    assert found["nodes"] == []
    assert all(ours == theirs for _, ours, theirs in found["facts"])
    assert {"verdict", "SQNR", "size"} <= {what for what, _, _ in found["facts"]}
    assert all(o["a"] == o["b"] for o in found["outputs"])
    assert found["outputs"]


def test_what_differs_is_shown_node_by_node(evidence):
    changed = [replace(n, precision="FP32") if n.quantized else n for n in evidence.reading.nodes]
    other = replace(evidence, name="b.onnx",
                    reading=replace(evidence.reading, nodes=tuple(changed[1:])))  # fmt: skip
    found = content(replace(evidence, other=other))["against"]
    first, *rest = found["nodes"]
    assert first["name"] == changed[0].name
    assert "b" not in first
    assert {n["b"]["precision"] for n in rest} == {"FP32"}
    assert len(rest) == sum(n.quantized for n in evidence.reading.nodes[1:])


def test_what_a_node_ran_in_stands_beside_its_precision(full):
    changed = [replace(n, precision="FP32") if n.quantized else n for n in full.reading.nodes]
    other = replace(full, name="b.onnx", engine=None,
                    reading=replace(full.reading, nodes=tuple(changed)))  # fmt: skip
    found = content(replace(full, other=other))
    ran = {n["name"]: n["a"]["ran"] for n in found["against"]["nodes"] if "ran" in n["a"]}
    told = {n["name"]: n["real"] for n in found["engine"]["nodes"]}
    assert ran == {name: told[name] for name in ran}
    assert set(ran.values()) == {"fp32", "int8"}
    assert not any("ran" in n["b"] for n in found["against"]["nodes"])


def test_a_model_of_another_float_model_is_refused(pair):
    model = onnx.load(pair / "b.onnx")
    source = next(p for p in model.metadata_props if p.key == "onnxq.source_model")
    source.value = "0" * 64
    onnx.save(model, pair / "c.onnx")
    with pytest.raises(DataError, match="was made for model 000000000000"):
        gather(pair / "a.onnx", Sources(compare=pair / "c.onnx"))
