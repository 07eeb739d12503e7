"""What the README says works: its commands run, its Python runs, its links lead somewhere."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array
from onnxq_cli.main import run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
# nodes by the names and types that the README's patterns use
MODEL = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 16, 8, 8] x) => (float[N, 8, 8, 16] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w)
    r = Relu(a)
    [neck_deblocks] b = Conv<pads = [1, 1, 1, 1]>(r, w)
    s = Relu(b)
    c = Conv<pads = [1, 1, 1, 1]>(s, w)
    t = Transpose<perm = [0, 2, 3, 1]>(c)
    rows = Reshape(t, flat)
    g = Gemm(rows, v)
    y = Reshape(g, shape)
}"""


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def command_lines():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("onnxq ")]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the README's commands read."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(MODEL)
    arrays = {
        "w": rng.normal(size=(16, 16, 3, 3)).astype(np.float32),
        "v": rng.normal(size=(16, 16)).astype(np.float32),
        "flat": np.array([-1, 16]),
        "shape": np.array([-1, 8, 8, 16]),
    }
    model.graph.initializer.extend(from_array(x, name) for name, x in arrays.items())
    monkeypatch.chdir(tmp_path)
    onnx.save(model, "model.onnx")
    np.save("calib.npy", rng.normal(size=(16, 16, 8, 8)).astype(np.float32))
    Path("skip.txt").write_text("Conv_0  # the first\n")
    shutil.copytree(ROOT / "fixtures" / "centerpoint", "fixtures/centerpoint")
    assert run(["quantize", "model.onnx", "--calib", "calib.npy"]) == 0
    assert run(["plan", "model.onnx", "-o", "plan.yaml"]) == 0


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("line", command_lines())
def test_a_command_of_the_readme_runs(line, capsys):
    code = run(shlex.split(line, comments=True)[1:])
    error = capsys.readouterr().err
    if "no TensorRT can be imported" in error:
        pytest.skip("there is no TensorRT here")
    assert code in (0, 1), error  # 1: it ran, and has something to object to


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_of_the_readme_runs(block):
    exec(compile(block, "README.md", "exec"), {})
    assert Path("model.int8.onnx").is_file()


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)", README))
def test_a_link_leads_to_a_file(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("path", re.findall(r"^\| (`.*?) \|", README, re.MULTILINE))
def test_the_folders_named_are_there(path):
    assert all((ROOT / name.strip("`")).exists() for name in path.split(", "))
