"""How good a cost is that was learnt from one profile: three devices, plans that it never saw.

    python benchmarks/cost.py [--shared DIR] [--minilm FILE] [--only A100,made,cpu] [--page PAGE]

A100: the profile of a ResNet-18 in FP16, against what two INT8 engines of it took, with and without
Q/DQ on its skip branches. made: a device that does not exist (`tests/made_device.py`), whose true
times follow another formula, with 15% of noise a kernel. cpu: ONNX Runtime on this machine, one
thread: its own profile of the float model against the latency of ten mixed plans, the least of many
runs that take turns. PAGE gets the tables between its two marks. Exit code 1: a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markdown import table
from onnx import ModelProto, TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from made_device import MadeDevice  # noqa: E402

from onnxq.cost.fit import ratios_of  # noqa: E402
from onnxq.cost.shapes import usual_shapes  # noqa: E402
from onnxq.cost.timing import NOTHING, Timing, read_profile, timing_of  # noqa: E402
from onnxq.model import graph as graphs  # noqa: E402
from onnxq.pipeline import steps  # noqa: E402
from onnxq.pipeline.config import Config  # noqa: E402
from onnxq.pipeline.source import Source, prepare  # noqa: E402
from onnxq.plan import Plan  # noqa: E402
from onnxq.search.choices import given  # noqa: E402
from onnxq.targets.options import PlanOptions  # noqa: E402

BEGIN, END = "<!-- cost: begin -->\n", "<!-- cost: end -->\n"
LEAST = 0.95  # rank correlation on the made device, learnt from float
MODELS = {"efficientnet_lite0": "EfficientNet-Lite0", "yolo11n": "YOLO11n",
          "resnet20": "ResNet-20", "minilm": "MiniLM-L3"}  # fmt: skip
DEVICES = {"limited by computing": MadeDevice(rates={"fp16": 2e9, "int8": 4.4e9}),
           "limited by bandwidth": MadeDevice(bandwidth=4e7),
           "slow to start kernels": MadeDevice(launch=0.02)}  # fmt: skip
PRODUCTS = ("Conv", "Gemm", "MatMul")
CPU_MODELS = ("efficientnet_lite0", "resnet20")
CPU_ROUNDS, CPU_SECONDS = 400, 60.0
Row = list[str]


def main() -> int:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--minilm", type=Path)
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=["A100", "made", "cpu"]
    )
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    models = {name: args.shared / "models" / f"{name}.onnx" for name in MODELS}
    models["minilm"] = args.minilm or Path("missing")
    said, passed = [], True
    if "A100" in args.only:
        said.append(a100(args.shared / "data" / "trtexec"))
    if "made" in args.only:
        text, passed = made(models)
        said.append(text)
    if "cpu" in args.only:
        said.append(cpu(models))
    text = "\n".join(said)
    print(text)
    if args.page:
        page = args.page.read_text("utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        args.page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")
    return 0 if passed else 1


def learnt(source: Source, profile: Any, layers: Any = None, rates: str | None = None) -> Timing:
    """The times of a model by one profile, given as documents."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "profile.json"), Path(folder, "layers.json")]
        for path, document in zip(files, (profile, layers), strict=True):
            path.write_text(json.dumps(document), "utf-8")
        reading = read_profile(source.graph, files[0], files[1] if layers else None)
    return timing_of(source.graph, reading, usual_shapes(source.graph), "fp32", ratios_of(rates))


def a100(folder: Path) -> str:
    """Two INT8 engines against what the profile of the FP16 engine says of them."""
    if not folder.is_dir():
        return "Not measured: the profiles of an A100 are not here.\n"
    with tempfile.TemporaryDirectory() as made_in:
        path = Path(made_in, "resnet18.onnx")
        path.write_bytes(resnet18().SerializeToString())
        source = prepare(path)
    profile, layers = (
        json.loads((folder / f"resnet_a100_fp16.{kind}.json").read_text("utf-8"))
        for kind in ("profile", "layers")
    )
    timing = learnt(source, profile, layers)
    whole = steps.plan(source, Config())
    plain = whole.without(*(n for n in whole.nodes if n.startswith("Add")))
    rows = []
    for title, name, plan in (
        ("FP16, profiled", "fp16", NOTHING),
        ("INT8, Q/DQ on skip branches", "qat_residual", whole),
        ("INT8, none on skip branches", "qat", plain),
    ):
        times = json.loads((folder / f"resnet_a100_{name}.profile.json").read_text("utf-8"))
        true = sum(entry.get("averageMs", 0.0) for entry in times)
        guess = timing.total(plan)
        rows.append([title, f"{guess:.3f}", f"{true:.3f}", f"{100 * (guess / true - 1):+.0f}%"])
    head = ["ResNet-18, batch 32, A100", "predicted ms", "measured ms", "error"]
    return f"**A real GPU**, the one for which there are files:\n\n{table(head, rows)}"


def resnet18() -> ModelProto:
    """A ResNet-18 with nodes named as in those files; the weights do not matter."""
    nodes, weights, rng = [], [], np.random.default_rng(0)

    def add(op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def conv(x: str, before: int, after: int, size: int, stride: int) -> str:
        values = rng.normal(size=(after, before, size, size)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{len(weights)}"))
        return add("Conv", [x, weights[-1].name], kernel_shape=[size] * 2, strides=[stride] * 2,
                   pads=[size // 2] * 4)  # fmt: skip

    x = add("Relu", [conv("input", 3, 64, 7, 2)])
    x = add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for wide in (64, 128, 256, 512):
        for stride in (1 if wide == channels else 2, 1):
            y = conv(add("Relu", [conv(x, channels, wide, 3, stride)]), wide, wide, 3, 1)
            skip = x if wide == channels else conv(x, channels, wide, 1, stride)
            x, channels = add("Relu", [add("Add", [y, skip])]), wide
    x = add("Flatten", [add("GlobalAveragePool", [x])])
    weights.append(numpy_helper.from_array(rng.normal(size=(1000, 512)).astype(np.float32), "fc"))
    x = add("Gemm", [x, "fc"], transB=1)
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 224, 224]),
            helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 1000])]  # fmt: skip
    graph = helper.make_graph(nodes, "resnet18", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mixed(source: Source, whole: Plan, count: int) -> Iterator[Plan]:
    """Plans of which every second quantizes nodes in a row, the others any."""
    rng, mix = random.Random(0), given(source.graph, whole).mix
    nodes = whole.nodes
    for k in range(count):
        share, first = rng.random(), rng.randrange(len(nodes))
        row = nodes[first : first + max(1, int(share * len(nodes)))]
        some = [node for node in nodes if rng.random() < share]
        yield mix(dict.fromkeys(row if k % 2 else some, "int8"))


def compared(true: Sequence[float], guesses: Sequence[float]) -> Row:
    """Rank correlation, median and largest relative error."""
    from scipy.stats import spearmanr

    errors = np.abs(np.divide(guesses, true) - 1)
    return [f"{spearmanr(true, guesses)[0]:.3f}", f"{100 * np.median(errors):.1f}%",
            f"{100 * errors.max():.1f}%"]  # fmt: skip


def made(models: dict[str, Path]) -> tuple[str, bool]:
    """Forty plans a model and device; the table, and whether the bar is met on two models."""
    rows, met = [], defaultdict(list)
    for name, path in models.items():
        if not path.is_file():
            continue
        source = prepare(path)
        graph, shapes = source.graph, usual_shapes(source.graph)
        whole = steps.plan(source, Config())
        plans = list(mixed(source, whole, 40))
        for title, device in DEVICES.items():
            true = [device.total(graph, shapes, plan) for plan in plans]
            gain = device.total(graph, shapes, whole) / device.total(graph, shapes, NOTHING) - 1
            row = [MODELS[name], title, f"{100 * gain:+.0f}%"]
            for profiled in (NOTHING, whole):
                layers, profile = device.engine(graph, shapes, profiled)
                timing = learnt(source, profile, layers)
                found = compared(true, [timing.total(plan) for plan in plans])
                row += found[:2]
                met[name].append(float(found[0])) if profiled is NOTHING else None
            rows.append(row)
            print(*row, file=sys.stderr)
    head = ["model", "made-up device", "INT8 takes", "rank, of FP16", "error", "rank, of INT8",
            "error"]  # fmt: skip
    said = "**A made-up device**: rank correlation and median error of 40 plans, learnt from the " \
           "FP16 or the INT8 engine:\n\n"  # fmt: skip
    good = sum(min(ranks) >= LEAST for ranks in met.values())
    print(f"{'pass' if good > 1 else 'MISS'}: on {good} of {len(met)} models the rank correlation "
          f"is {LEAST} on every device, learnt from FP16; asked 2", file=sys.stderr)  # fmt: skip
    return said + table(head, rows), good > 1


def cpu(models: dict[str, Path]) -> str:
    """Ten plans a model in ONNX Runtime on this machine."""
    rows = []
    for name in CPU_MODELS:
        if not models[name].is_file():
            continue
        source = prepare(models[name], Config(PlanOptions(target="onnxruntime")))
        rows += cpu_rows(MODELS[name], source)
    head = ["model", "INT8 rate", "plans", "rank", "median error", "largest", "float ms",
            "INT8 ms", "predicted", "mapped"]  # fmt: skip
    said = (
        "**ONNX Runtime on a CPU**, one thread: learnt from its own profile of the float model,\n"
        "against latencies of `--target onnxruntime` on a busy machine, the least of many runs in\n"
        "turns:\n\n"
    )
    return said + table(head, rows)


def cpu_rows(title: str, source: Source) -> list[Row]:
    """Plans measured against those predicted with two guesses of INT8's rate."""
    config = Config(PlanOptions(target="onnxruntime"), method="max", recover="none")
    whole = steps.plan(source, config)
    tensor = source.graph.inputs[0]
    shape = [d if isinstance(d, int) else 1 for d in tensor.shape]
    feed = {tensor.name: np.random.default_rng(0).random(shape, np.float32)}
    plans = [NOTHING, whole, *mixed(source, whole, 10)]
    sessions = [session(graph) for graph in inserted(source, whole, plans, config, feed)]
    true = least(sessions, feed)
    times = profiled(source.graph, feed)
    rows = []
    for rate in (2, 4):
        timing = learnt(source, times, rates=f"fp32=1,int8={rate}")
        guesses = [timing.total(plan) for plan in plans]
        scale = true[0] / guesses[0]  # the profiler takes time itself
        guesses = [scale * ms for ms in guesses]
        share = sum(k.ms for k in timing.found.kernels) / sum(times.values())
        found = compared(true[2:], guesses[2:])
        rows.append([title, f"{rate} x FP32", "10", *found, f"{true[0]:.2f}", f"{true[1]:.2f}",
                     f"{guesses[1]:.2f}", f"{100 * share:.0f}%"])  # fmt: skip
        print(*rows[-1], file=sys.stderr)
        print([f"{t:.2f}/{g:.2f}" for t, g in zip(true, guesses, strict=True)], file=sys.stderr)
    return rows


def inserted(
    source: Source, whole: Plan, plans: Sequence[Plan], config: Config, feed: dict[str, Any]
) -> Iterator[Any]:
    """The model with the Q/DQ of each plan."""
    dataset = steps.data(source, feed, config)
    stats = steps.calibrate(source, whole, dataset, config)
    ranges = steps.read(source, whole, stats, config.method)
    for plan in plans:
        yield steps.insert(source, plan, ranges, config) if plan.edges else source.graph


def session(graph: Any, folder: str | None = None) -> Any:
    """A session of one thread; with a profile where there is a folder for it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if folder:
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "p"))
    with tempfile.TemporaryDirectory() as written:
        path = Path(written, "model.onnx")
        graphs.save(graph, path)
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def least(sessions: Sequence[Any], feed: dict[str, Any]) -> list[float]:
    """The least milliseconds of each session, over runs that take turns."""
    best, begun = [float("inf")] * len(sessions), time.perf_counter()
    for _ in range(CPU_ROUNDS):
        for i, each in enumerate(sessions):
            start = time.perf_counter()
            each.run(None, feed)
            best[i] = min(best[i], 1e3 * (time.perf_counter() - start))
        if time.perf_counter() - begun > CPU_SECONDS:
            break
    return best


def profiled(graph: Any, feed: dict[str, Any]) -> dict[str, float]:
    """Node -> least milliseconds, by ONNX Runtime's profiler; nodes that it fused go by the name
    that it gave them."""
    with tempfile.TemporaryDirectory() as folder:
        made_one = session(graph, folder)
        for _ in range(60):
            made_one.run(None, feed)
        events = json.loads(Path(made_one.end_profiling()).read_text("utf-8"))
    nodes = {node.name: node for node in graph.nodes}
    writers = {tensor.name: node for node in graph.nodes for tensor in node.outputs}
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            times[name, event["args"]["op_name"]].append(event["dur"] / 1e3)
    found: dict[str, float] = defaultdict(float)
    for (name, op), ms in times.items():
        last = nodes.get(name) or writers.get(name.removesuffix("_nchwc"))
        found[name if last is None else _joined(last, op, writers)] += min(ms)
    return found


def _joined(node: Any, op: str, writers: dict[str, Any]) -> str:
    """The nodes of a kernel, as TensorRT joins their names: from the product that ONNX Runtime
    fused, of which it keeps the last node's name, to that node."""
    names = [node.name]
    while any(kind in op for kind in PRODUCTS) and node.op not in PRODUCTS:
        node = next((writers[x.name] for x in node.inputs if x.name in writers), None)
        if node is None:
            break
        names.insert(0, node.name)
    return " + ".join(names)


if __name__ == "__main__":
    sys.exit(main())
