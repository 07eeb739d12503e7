"""`onnxq quantize` on the fixtures: what it writes, prints and repeats."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml

MODELS = {
    "classifier": ("classifier/classifier.onnx", "classifier/calib.npy"),
    "transformer": ("transformer/transformer.onnx", "transformer/calib.npz"),
    "yolo_like": ("yolo_like/yolo_like.onnx", "yolo_like/calib.npy"),
    "centerpoint": ("centerpoint/backbone_neck_head.onnx", "centerpoint/calib.npy"),
}


@pytest.fixture
def quantize(done, fixtures):
    def call(name, *options, out="q.onnx"):
        model, data = (fixtures / part for part in MODELS[name])
        done("quantize", model, "--calib", data, "-o", out, *options)
        return onnx.load(out)

    return call


def runs(model):
    """Check a model and run it on zeros; its outputs by name."""
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    types = {"tensor(int64)": np.int64, "tensor(float16)": np.float16}
    feeds = {
        i.name: np.zeros([d if isinstance(d, int) else 1 for d in i.shape],
                         types.get(i.type, np.float32))
        for i in session.get_inputs()
    }  # fmt: skip
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", [(), ("--high-precision", "fp16"), ("--weights-as", "float")])
def test_every_fixture_becomes_a_valid_model_with_qdq(quantize, name, options):
    model = quantize(name, *options)
    outputs = runs(model)
    assert all(np.isfinite(x).all() for x in outputs.values())
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("DequantizeLinear") > 10
    weights = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert any(len(t.dims) > 1 for t in weights) == ("float" not in options)


@pytest.mark.parametrize("method", ["max", "percentile", "percentile:99.9", "mse", "entropy"])
def test_every_method_gives_a_model_close_to_the_float_one(quantize, method):
    runs(quantize("classifier", "--method", method))
    manifest = json.loads(Path("q.onnx.manifest.json").read_text())
    # INT8 with ranges per tensor keeps a small convolutional classifier well above 25 dB
    assert manifest["agreement"]["outputs"]["logits"]["sqnr_db"] > 25


def test_auto_takes_the_best_of_the_methods(quantize):
    quantize("classifier", "--method", "auto", "--recover", "none")
    manifest = json.loads(Path("q.onnx.manifest.json").read_text())
    measured = manifest["agreement"]["outputs"]["logits"]["sqnr_db"]
    assert measured == max(manifest["auto"].values())
    assert set(manifest["auto"]) == {"mse", "max", "percentile:99.999", "entropy"}


def test_the_default_output_lies_beside_the_model(done, classifier, images, folder):
    (folder / "net.onnx").write_bytes(classifier.read_bytes())
    done("quantize", "net.onnx", "--calib", images)
    assert sorted(p.name for p in folder.iterdir()) == [
        "net.int8.onnx", "net.int8.onnx.manifest.json", "net.onnx",
    ]  # fmt: skip


def test_the_manifest_and_the_models_metadata_tell_the_whole_story(quantize):
    model = quantize("centerpoint", "--skip", "deblocks")
    manifest = json.loads(Path("q.onnx.manifest.json").read_text())
    assert manifest["kind"] == "onnxq.manifest"
    assert manifest["nodes"]["quantized"] == {"Conv": 18}
    assert manifest["nodes"]["float"]["--skip deblocks"] == 3
    assert manifest["output"] == {"path": "q.onnx", "bytes": Path("q.onnx").stat().st_size}
    assert manifest["config"]["skip"] == ["deblocks"]
    assert manifest["data"]["samples"] > 0
    (shape,) = manifest["data"]["shapes"].values()
    assert shape["min"] == shape["opt"] == shape["max"]
    assert {"versions", "model", "agreement", "tensors", "seconds", "float_nodes"} <= set(manifest)
    assert all(t["amax"] > 0 for t in manifest["tensors"].values())
    props = {p.key: p.value for p in model.metadata_props}
    assert props["onnxq.source_model"] == manifest["model"]["sha256"]
    assert props["onnxq.calibration_data"] == manifest["data"]["digest"]
    assert props["onnxq.method"] == "mse"
    assert props["onnxq.quantized_nodes"] == "18"


def test_a_prepared_model_has_the_metadata_of_the_model(done, classifier):
    model = onnx.load(classifier)
    onnx.helper.set_model_props(model, {"names": "{0: 'cat'}", "stride": "32"})
    onnx.save(model, "m.onnx")
    done("prepare", "m.onnx", "-o", "p.onnx")
    found = {p.key: p.value for p in onnx.load("p.onnx").metadata_props}
    assert found == {"names": "{0: 'cat'}", "stride": "32"}


def test_a_dry_run_prints_the_plan_and_writes_nothing(done, classifier, images, folder):
    ran = done("quantize", classifier, "--calib", images, "--dry-run")
    done("plan", classifier, "-o", "plan.yaml")
    assert ran.out == Path("plan.yaml").read_text()
    assert [p.name for p in folder.iterdir()] == ["plan.yaml"]


def test_json_goes_to_stdout_whole(done, classifier, images):
    ran = done("quantize", classifier, "--calib", images, "-o", "q.onnx", "--json")
    manifest = json.loads(ran.out)
    written = json.loads(Path("q.onnx.manifest.json").read_text())
    assert {k: manifest[k] for k in written if k not in ("kind", "version")} == {
        k: v for k, v in written.items() if k not in ("kind", "version")
    }


def without_digest(model):
    """A model's bytes but for the digest of the manifest, which holds times."""
    kept = [p for p in model.metadata_props if p.key != "onnxq.manifest_sha256"]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.metadata_props[:]
    copy.metadata_props.extend(kept)
    return copy.SerializeToString(deterministic=True)


def test_two_runs_give_the_same_bytes(quantize):
    first = quantize("classifier", "--workers", "1")
    second = quantize("classifier", "--workers", "2", out="again.onnx")
    assert without_digest(first) == without_digest(second)


def test_saved_values_lead_to_the_same_model_again(quantize):
    first = quantize("transformer", "--skip", "layer.0", "--save-plan", "p.yaml", "--save-stats",
                     "s.npz", "--save-ranges", "r.json", "--save-config", "c.yaml")  # fmt: skip
    wanted = without_digest(first)
    assert without_digest(quantize("transformer", "--plan", "p.yaml")) == wanted
    assert without_digest(quantize("transformer", "--config", "c.yaml")) == wanted
    again = quantize(
        "transformer", "--plan", "p.yaml", "--stats", "s.npz", "--save-ranges", "r2.json"
    )
    assert without_digest(again) == wanted
    assert Path("r.json").read_bytes() == Path("r2.json").read_bytes()
    assert yaml.safe_load(Path("c.yaml").read_text())["skip"] == ["layer.0"]


def test_a_manifest_is_a_configuration_for_every_command(quantize, done, classifier):
    quantize("classifier", "--skip", "layer1", "--weights-as", "float")
    done("plan", classifier, "--config", "q.onnx.manifest.json", "-o", "plan.yaml")
    assert "--skip layer1" in Path("plan.yaml").read_text()


def test_the_command_line_wins_over_the_configuration(quantize):
    Path("run.yaml").write_text("method: max\nskip: layer1\nmin-channels: 8\n")
    quantize("classifier", "--config", "run.yaml", "--method", "entropy")
    config = json.loads(Path("q.onnx.manifest.json").read_text())["config"]
    assert (config["method"], config["skip"], config["min_channels"]) == ("entropy", ["layer1"], 8)


def test_weights_go_beside_the_model_on_demand(quantize, folder):
    model = quantize("classifier", "--external-data")
    (data,) = folder.glob("q.onnx.*.data")
    assert {p.name for p in folder.iterdir()} == {"q.onnx", data.name, "q.onnx.manifest.json"}
    written = json.loads(Path("q.onnx.manifest.json").read_text())["output"]["bytes"]
    assert written == sum(Path(f).stat().st_size for f in ("q.onnx", data))
    runs(model)


def test_the_summary_fits_80_columns_and_copies_whole(done, fixtures):
    model, data = (fixtures / part for part in MODELS["transformer"])
    out = done("quantize", model, "--calib", data, "-o", "q.onnx", "--repeat").out
    tables, commands = out.split("to repeat the comparison:\n")
    tables, following = tables.split("next: ")
    assert following.startswith("onnxq ")
    assert all(len(line) <= 80 and line == line.rstrip() for line in tables.splitlines())
    assert tables.index("SQNR dB") < tables.index("Nodes") < tables.index("Most clipping")
    for command in commands.splitlines():
        assert shlex.split(command)[0] in ("onnxq", "polygraphy")


def test_only_tensors_that_clip_are_listed_as_clipping(done, classifier, images):
    ran = done("quantize", classifier, "--calib", images, "-o", "q.onnx", "--method", "max")
    assert "clipping" not in ran.out


@pytest.mark.parametrize("name", ["classifier", "centerpoint"])
def test_the_polygraphy_lines_hold_for_the_model_and_fail_for_a_ruined_one(
    done, onnxq, fixtures, folder, name
):
    pytest.importorskip("polygraphy")
    model, data = (fixtures / part for part in MODELS[name])
    (folder / "with space").mkdir()
    done_run = done("quantize", model, "--calib", data, "-o", "with space/q.onnx", "--json")
    lines = json.loads(done_run.out)["repeat"]
    first, *others = (shlex.split(line) for line in lines)
    done(*first[1:])
    for line in others:
        ran = polygraphy(*line[1:])
        assert ran.returncode == 0, ran.stdout[-2000:]
    _ruin(Path("with space/q.onnx"))
    assert polygraphy(*others[-1][1:]).returncode == 1


def polygraphy(*args):
    code = "import sys; from polygraphy.tools import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True,
                          timeout=60)  # fmt: skip


def _ruin(path):
    """Make the range of every activation 16 times too small: it clips."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale") and not tensor.dims:
            scale = onnx.numpy_helper.to_array(tensor) / 16
            tensor.CopyFrom(onnx.numpy_helper.from_array(scale, tensor.name))
    onnx.save(model, path)
