"""A model over 2 GB with external data, through every verb: the peak of memory of each.

    python large.py FOLDER [--gigabytes 2.2] [--nodes 1000] [--kind matmul|conv] [--verb VERB]...

Each verb runs in a process of its own; Linux only. `anonymous` is memory that is the process's own,
`mapped` also counts pages of the weights' files, which the system takes back when it needs them.
Both are peaks, sampled every 20 ms, in bytes and as a share of the weights. The model is written to
FOLDER and removed at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

RUN = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
session = onnxruntime.InferenceSession(sys.argv[1], options)
session.run(None, {"x0": numpy.load(sys.argv[2])[:1]})
"""
VERBS = {
    "inference": [],
    "prepare": ["prepare", "{model}", "-o", "{out}/prepared.onnx"],
    "calibrate": ["calibrate", "{model}", "--calib", "{data}", "-o", "{out}/ranges.json"],
    "quantize": ["quantize", "{model}", "--calib", "{data}", "-o", "{out}/q.onnx"],
    "unrecovered": ["quantize", "{model}", "--calib", "{data}", "-o", "{out}/q.onnx", "--recover",
                    "none"],
    "sensitivity": ["sensitivity", "{model}", "--calib", "{data}", "--only", "3.product", "-o",
                    "{out}/ranking.csv"],  # the blocks 3, 13, 23, ...
    "lint": ["lint", "{model}"],
}  # fmt: skip
TOKENS, SIDE, SAMPLES = 16, 16, 4


def write_model(path: Path, weight_bytes: float, nodes: int, kind: str) -> int:
    """Write a residual net of about `nodes` nodes, its weights in `<path>.data`; their bytes.

    matmul: x + s Relu(x W + b), five nodes. conv: x + s Relu(BN(Conv(x))), five nodes.
    """
    blocks = max(nodes // 5, 1)
    taps = 9 if kind == "conv" else 1
    width = max(int((weight_bytes / 4 / taps / blocks) ** 0.5) // 16 * 16, 16)
    rng = np.random.default_rng(0)
    shape = (width, width, 3, 3) if kind == "conv" else (width, width)
    weight = rng.standard_normal(shape, np.float32) / np.float32((taps * width) ** 0.5)
    made: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    data = path.with_name(path.name + ".data")
    with open(data, "wb") as out:
        for k in range(blocks):
            stored.append(_external(f"{k}.weight", weight.shape, data.name, out.tell()))
            out.write(((1 + k / blocks) * weight).tobytes())
            stored.append(_small(f"{k}.bias", 0.1 * rng.standard_normal(width)))
            make = _conv if kind == "conv" else _matmul
            made += make(k, stored, rng, width)
    ends = (1, width, SIDE, SIDE) if kind == "conv" else (1, TOKENS, width)
    stored.append(_small("step", np.float32(2 / blocks)))
    graph = helper.make_graph(
        made,
        "large",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, ends)],
        [helper.make_tensor_value_info(f"x{blocks}", TensorProto.FLOAT, ends)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    np.save(path.with_suffix(".npy"), rng.standard_normal((SAMPLES, *ends[1:]), np.float32))
    return data.stat().st_size


def _matmul(
    k: int, stored: list[onnx.TensorProto], rng: np.random.Generator, width: int
) -> list[onnx.NodeProto]:
    return [
        _node("MatMul", [f"x{k}", f"{k}.weight"], f"{k}.product"),
        _node("Add", [f"{k}.product", f"{k}.bias"], f"{k}.sum"),
        *_residual(k, f"{k}.sum"),
    ]


def _conv(
    k: int, stored: list[onnx.TensorProto], rng: np.random.Generator, width: int
) -> list[onnx.NodeProto]:
    names = [f"{k}.{name}" for name in ("gamma", "beta", "mean", "var")]
    for name, spread in zip(names, (0.1, 0.1, 0.1, 0.0), strict=True):
        base = 1.0 if name.endswith(("gamma", "var")) else 0.0
        stored.append(_small(name, base + spread * rng.standard_normal(width)))
    conv = _node("Conv", [f"x{k}", f"{k}.weight", f"{k}.bias"], f"{k}.product")
    conv.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    return [
        conv,
        _node("BatchNormalization", [f"{k}.product", *names], f"{k}.sum"),
        *_residual(k, f"{k}.sum"),
    ]


def _residual(k: int, branch: str) -> list[onnx.NodeProto]:
    return [
        _node("Relu", [branch], f"{k}.relu"),
        _node("Mul", [f"{k}.relu", "step"], f"{k}.scaled"),
        _node("Add", [f"x{k}", f"{k}.scaled"], f"x{k + 1}"),
    ]


def _node(op: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=f"{output}/{op}")


def _small(name: str, values: np.ndarray | np.floating) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(values, np.float32), name)


def _external(name: str, shape: tuple[int, ...], location: str, offset: int) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    length = 4 * int(np.prod(shape))
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def run(command: list[str]) -> tuple[int, float, int, int]:
    """Exit code, seconds, and peak bytes of a command: anonymous, and with mapped pages."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    anonymous = resident = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        fields = dict(line.split(":", 1) for line in status.splitlines())
        if "RssAnon" in fields:
            anonymous = max(anonymous, int(fields["RssAnon"].split()[0]) << 10)
            resident = max(resident, int(fields["VmHWM"].split()[0]) << 10)
        time.sleep(0.02)
    return process.wait(), time.perf_counter() - started, anonymous, resident


def main() -> None:
    """Write the model, run the verbs, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.2)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--kind", choices=("matmul", "conv"), default="matmul")
    parser.add_argument("--verb", action="append", choices=VERBS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "large.onnx"
        size = write_model(path, options.gigabytes * 1e9, options.nodes, options.kind)
        print(f"{options.kind}, {options.nodes} nodes, {size / 1e9:.2f} GB of weights")
        print(f"{'verb':14} exit  seconds  anonymous          mapped too")
        places = {"model": path, "data": path.with_suffix(".npy"), "out": folder}
        for verb in options.verb or list(VERBS):
            arguments = [word.format(**places) for word in VERBS[verb]]
            if verb == "inference":  # one sample through ONNX Runtime alone, to compare with
                command = [sys.executable, "-c", RUN, str(places["model"]), str(places["data"])]
            else:
                command = [sys.executable, "-m", "onnxq_cli", *arguments]
            code, seconds, anonymous, resident = run(command)
            own = f"{anonymous / 1e9:6.2f} GB ({anonymous / size:.2f})"
            all_of_it = f"{resident / 1e9:8.2f} GB ({resident / size:.2f})"
            print(f"{verb:14} {code:4} {seconds:8.1f} {own} {all_of_it}", flush=True)
            for made in Path(folder).iterdir():
                if not made.name.startswith("large"):
                    made.unlink()


if __name__ == "__main__":
    main()
