"""Mistakes in weights, labels, rankings and graphs, and models of one output or of no rows."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

RNG = np.random.default_rng(0)


def save(body, inputs, outputs, **weights):
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    for name, value in weights.items():
        value = RNG.standard_normal(value) / 8 if isinstance(value, tuple) else value
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
        )
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
    onnx.save(model, "m.onnx")
    return "m.onnx"


@pytest.mark.parametrize(("place", "value", "said"), [
    ("W", np.nan, "input 1 of Gemm 'n2', the constant 'W', holds NaN"),
    ("b", np.nan, "input 2 of Gemm 'n2', the constant 'b', holds NaN"),
    ("W", np.inf, "input 1 of Gemm 'n2', the constant 'W', holds inf"),
])  # fmt: skip
def test_nan_in_a_weight_or_bias_is_named(refused, done, folder, place, value, said):
    arrays = {"W": RNG.standard_normal((32, 20)) / 6, "b": np.zeros(20)}
    arrays[place].flat[3] = value
    body = "h = Gemm(x, V) r = Relu(h) y = Gemm(r, W, b)"
    model = save(body, "float[N, 32] x", "float[N, 20] y", V=(32, 32), **arrays)
    np.save("x.npy", RNG.standard_normal((32, 32)).astype(np.float32))
    assert said in refused("quantize", model, "--calib", "x.npy", "-o", "q.onnx")
    assert said in refused("sensitivity", model, "--calib", "x.npy")
    assert done("diff", model, model).out.count("equal")
    done("inspect", model)
    done("lint", model)


@pytest.mark.parametrize("options", [("--scheme", "w4a16"), ("--recover", "all")])
@pytest.mark.parametrize(
    "body", ["y = MatMul(t, v)", "u = Transpose<perm=[0,2,1]>(t) y = MatMul(l, u)"]
)
def test_a_weight_of_one_output_is_rounded(done, folder, options, body):
    shape = "float[N, 10] y" if "v" in body else "float[N, 1, 10] y"
    model = save(f"h = MatMul(x, W) t = Tanh(h) {body}", "float[N, 10, 64] x", shape,
                 W=(64, 64), **({"v": (64,)} if "v" in body else {"l": (1, 64)}))  # fmt: skip
    np.save("x.npy", RNG.standard_normal((16, 10, 64)).astype(np.float32))
    done("quantize", model, "--calib", "x.npy", "--min-channels", 1, "-o", "q.onnx", *options)


@pytest.mark.parametrize("options", [(), ("--scheme", "w4a16"), ("--recover", "all")])
def test_an_empty_sample_adds_nothing(done, folder, options):
    model = save("h = Gemm(x, V) r = Relu(h) y = Gemm(r, W)", "float[R, 32] x", "float[R, 20] y",
                 V=(32, 64), W=(64, 20))  # fmt: skip
    for name, counts in (("some", (3, 5, 1, 4, 7, 2, 6, 4)), ("more", (0, 3, 5, 1, 4, 7, 2, 6, 4))):
        Path(name).mkdir()
        rows = np.random.default_rng(1)
        for i, n in enumerate(counts):
            np.savez(Path(name) / f"{i}.npz", x=rows.standard_normal((n, 32)).astype("f4"))
        done("quantize", model, "--calib", name, "--check-samples", 0, "-o", f"{name}.onnx",
             "--save-ranges", f"{name}.json", *options)  # fmt: skip
    assert Path("some.json").read_text() == Path("more.json").read_text()


@pytest.fixture
def labelled(classifier, images):
    def call(labels):
        few = ("--eval-samples", 8, "--samples", 8)
        data = ("--calib", images, "--labels", labels)
        return ("sensitivity", classifier, *data, "--metric", "top1", *few)

    return call


def test_labels_are_read_from_an_archive_of_one_array(done, refused, labelled):
    np.savez("labels.npz", labels=np.zeros(100, np.int64))
    done(*labelled("labels.npz"))
    np.savez("two.npz", a=np.zeros(100, np.int64), b=np.zeros(3))
    assert "holds the arrays 'a', 'b'; give a file with" in refused(*labelled("two.npz"))
    Path("labels.csv").write_text("1\n2\n")
    assert "is not a NumPy file, it begins with b'1" in refused(*labelled("labels.csv"))
    assert "no labels at 'none.npy'" in refused(*labelled("none.npy"))


@pytest.mark.parametrize(("attribute", "said"), [
    (onnx.helper.make_attribute("group", 0), "'group' of Conv 'n0' in it is 0"),
    (onnx.helper.make_attribute("strides", [1, 0]), "'strides' of Conv 'n0' in it is 1, 0"),
    (onnx.helper.make_attribute("group", "one"), "'group' of Conv 'n0' in it is STRING, not INT"),
])  # fmt: skip
def test_an_attribute_that_no_runtime_takes_is_named(refused, folder, attribute, said):
    model = save("y = Conv(x, W)", "float[N, 16, 8, 8] x", "float[N, 16, 6, 6] y", W=(16, 16, 3, 3))
    proto = onnx.load(model)
    proto.graph.node[0].attribute.append(attribute)
    onnx.save(proto, model)
    assert said in refused("plan", model, "-o", "plan.yaml")


def test_if_nested_deeper_than_protobuf_reads_is_told(refused, folder):
    def body(name, nodes, out):
        value = onnx.helper.make_tensor_value_info(out, 1, None)
        return onnx.helper.make_graph(nodes, name, [], [value])

    inner = body("b", [onnx.helper.make_node("Relu", ["x"], ["o0"], "r")], "o0")
    for i in range(1, 33):
        other = body("e", [onnx.helper.make_node("Identity", ["x"], [f"e{i}"])], f"e{i}")
        node = onnx.helper.make_node("If", ["c"], [f"o{i}"], f"if{i}", then_branch=inner,
                                     else_branch=other)  # fmt: skip
        inner = body("b", [node], f"o{i}")
    inputs = [onnx.helper.make_tensor_value_info("x", 1, ["n", 4]),
              onnx.helper.make_tensor_value_info("c", 9, [])]  # fmt: skip
    outputs = [onnx.helper.make_tensor_value_info("o32", 1, None)]
    graph = onnx.helper.make_graph(list(inner.node), "g", inputs, outputs)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), "deep.onnx")
    assert "deeper than protobuf reads" in refused("prepare", "deep.onnx", "-o", "p.onnx")


def test_a_damaged_ranking_is_refused(done, refused, classifier, images):
    done("quantize", classifier, "--calib", images, "-o", "q.onnx")
    done("sensitivity", classifier, "--calib", images, "--eval-samples", 4, "-o", "r.json")
    whole = json.loads(Path("r.json").read_text())
    for key, value in (("share", "inf"), ("share", "much"), ("macs", None), ("nodes", 3)):
        whole["rows"][0] = {**json.loads(Path("r.json").read_text())["rows"][0], key: value}
        Path("bad.json").write_text(json.dumps(whole))
        message = refused("report", "q.onnx", "--ranking", "bad.json", "-o", "r.html")
        assert "'bad.json' is not a ranking that can be read" in message


@pytest.mark.parametrize(("choices", "target"), [
    ("fp8,int8", "tensorrt"), ("w16a16,int8", "onnxruntime"),
])  # fmt: skip
def test_the_opset_is_raised_to_what_any_choice_needs(done, folder, choices, target):
    pytest.importorskip("highspy")
    model = save("h = Gemm(x, V) r = Relu(h) y = Gemm(r, W)", "float[N, 32] x", "float[N, 32] y",
                 V=(32, 32), W=(32, 32))  # fmt: skip
    np.save("x.npy", RNG.standard_normal((16, 32)).astype(np.float32))
    done("search", model, "--calib", "x.npy", "--choices", choices, "--target", target,
         "--min-sqnr", 5, "-o", "plan.yaml")  # fmt: skip


def test_a_key_that_stands_twice_in_a_configuration_is_named(refused, classifier):
    Path("c.yaml").write_text("method: max\nmethod: mse\n")
    message = refused("plan", classifier, "--config", "c.yaml", "-o", "p.yaml")
    assert "'method' stands twice in one mapping, line 2" in message


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.json", "[1, 2]"), ("m.json", "[" * 100_000), ("m.textproto", "a: b"), ("m.onnxtxt", "<")],
)
def test_a_file_in_no_form_of_onnx_is_no_model(refused, folder, name, text):
    Path(name).write_text(text)
    message = refused("plan", name, "-o", "plan.yaml")
    assert message == f"'{name}' is not an ONNX model or is cut short; export it again"
