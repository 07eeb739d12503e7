"""A quantized CenterPoint with all that is known of it, and graphs by the thousand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

import onnxq
from onnxq.api import Quantized
from onnxq.cost.blocks import Pays
from onnxq.cost.counted import Share
from onnxq.cost.learnt import Learnt
from onnxq.inspect.reading import read_graph
from onnxq.model.graph import Graph
from onnxq.passes.name_nodes import name_nodes
from onnxq.pipeline.config import Config
from onnxq.report.encoded import photograph
from onnxq.report.html import verbs
from onnxq.report.html.content import content
from onnxq.report.html.evidence import Evidence
from onnxq.report.pictures import Pictures
from onnxq.search.result import Result, Trial
from onnxq.sensitivity.ranking import Ranking, Row, Score
from onnxq.targets.options import PlanOptions

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "centerpoint"
MODEL, DATA = FIXTURES / "backbone_neck_head.onnx", str(FIXTURES / "calib.npy")


@pytest.fixture(scope="session")
def centerpoint() -> Quantized:
    """The fixture with its deblocks left float."""
    config = Config(placement=PlanOptions(skip=("deblocks",)), recover="none")
    return onnxq.quantize(MODEL, [DATA], config)


@pytest.fixture(scope="session")
def ranking(centerpoint) -> Ranking:
    """Made up: the damage of each quantized node is 2 to the power of minus its rank."""
    nodes = centerpoint.plan.nodes
    rows = tuple(
        Row(
            rank=i + 1, tied=False, name=name, op="Conv", nodes=(name,),
            overall=Score(30.0 + i, 2.0**-i, 0.1 * 2.0**-i), outputs={}, share=2.0 ** -(i + 1),
            parts={}, sat_ratio=0.0, parameters=1, macs=1, samples=8,
        )
        for i, name in enumerate(nodes)
    )  # fmt: skip
    return Ranking(
        centerpoint.plan.model, "one-on", "node", "sqnr", True, "outputs", 8, rows, None, 29.0,
        ((0, 29.0), (1, float("inf"))),
    )  # fmt: skip


@pytest.fixture(scope="session")
def evidence(centerpoint, ranking) -> Evidence:
    """The CenterPoint with its manifest, statistics and a ranking."""
    return replace(verbs.quantized(centerpoint, "model.onnx", ("onnxq quantize",)), ranking=ranking)


LEARNT = Learnt(
    kernels=9, nodes_ms=1.5, converting_ms=0.25, layout_ms=0.125, unmapped_kernels=2,
    unmapped_ms=0.0625, float_type="fp16", gb_s=1234.0, tera_macs_s={"fp16": 70.0, "int8": 140.0},
    overhead_ms=0.002, limits={"bytes": 5, "macs": 3, "overhead": 1}, median_error=0.07,
    errors={"Conv_9": -0.4, "Conv_12": 0.1}, pays=Pays(2.0, 1.5, 1.5, "fp16", "int8", True, ()),
)  # fmt: skip


@pytest.fixture(scope="session")
def full(evidence) -> Evidence:
    """The same with a search, an engine and a comparison, made up, infinite scores among them."""
    names = evidence.ranking.worst(3)
    none = {"float": Share(1.0, 1.0)}
    trials = tuple(
        Trial({}, tuple(names[:k]), 0.3 + 0.1 * k, 0.3, none, 0.0, score, 0.5, {}, k > 0, True)
        for k, score in enumerate((20.0, 30.0, float("inf")))
    )
    search = Result("", "sqnr", True, float("inf"), "SQNR of at least 25 dB", "ops", ("int8",), 8,
                    trials, trials[1], None, None, learnt=LEARNT)  # fmt: skip
    runs = {name: {"meant": "int8", "real": "int8", "kernel": "corrltn", "fused_with": []}
            for name in names}  # fmt: skip
    runs[names[0]] |= {"real": "fp32"}
    verdict = {"readable": True, "reason": "", "kernels": 9, "quantize_kernels": 1,
               "move_kernels": 2, "bytes_moved": 1e6, "meant": 3, "covered": 2,
               "nodes": runs}  # fmt: skip
    kernel = {"name": "__myl_Move", "kind": "function", "layers": [], "inputs": ["int8"],
              "outputs": ["half"], "traffic": None}  # fmt: skip
    engine = {"ok": True, "build": {"engine": "m.engine", "bytes": 9}, "verdict": verdict,
              "listing": [kernel]}  # fmt: skip
    figures = {"sqnr_db": 20.0, "cosine": 0.9, "psnr_db": 30.0, "max_abs": 1.0, "mean_abs": 0.1}
    equal = {"sqnr_db": float("inf"), "cosine": 1.0}
    comparison = {"samples": 8, "outputs": {"reg_0": figures}, "failures": ["'reg_0': too low"],
                  "tensors": {"a": equal, "b": figures}, "first_offender": "b"}  # fmt: skip
    pictures = Pictures()
    image, heat = np.full((1, 3, 40, 60), 0.5, np.float32), np.zeros((1, 1, 40, 60), np.float32)
    pictures(0, {"x": image}, {"heat": heat}, {"heat": heat + np.eye(40, 60, dtype=np.float32)})
    box = {"box": [5.0, 5.0, 30.0, 30.0], "label": "cat 0.90", "alone": False}
    lost = {"box": [2.0, 20.0, 10.0, 35.0], "label": "<b>dog</b> 0.30", "alone": True}
    found = {"kind": "boxes", "image": photograph(np.full((40, 60, 3), 99, np.uint8)), "width": 60,
             "height": 40, "float": [box, lost], "quantized": [box]}  # fmt: skip
    detected = {"sample": 1, "samples": 2, "worst": True, "outputs": 1, "pictures": [found]}
    return replace(evidence, search=search, engine=engine, comparison=comparison,
                   pictures=[*pictures.shown(), detected])  # fmt: skip


@pytest.fixture(scope="session")
def shown(evidence) -> dict:
    """What its page shows, as it comes out of the page."""
    return json.loads(json.dumps(content(evidence), allow_nan=False))


def plain(graph: Graph, name: str = "model.onnx") -> Evidence:
    """A graph of which nothing else is known."""
    name_nodes(graph)
    return Evidence(name, graph, read_graph(graph, Path(name)))


@pytest.fixture(scope="session")
def of_graph() -> Callable[..., Evidence]:
    """`of_graph(graph)`: evidence with nothing but a graph."""
    return plain


def chain(names: list[str]) -> Graph:
    """Relus of these names one after the other; every seventh joined with the one five before."""
    tensors = [gs.Variable("x", np.float32, [1])]
    nodes = []
    for i, name in enumerate(names):
        out = gs.Variable(f"t{i}", np.float32, [1])
        joined = i % 7 == 6
        inputs = [tensors[-1], tensors[-6]] if joined else [tensors[-1]]
        nodes.append(gs.Node("Add" if joined else "Relu", name, {}, inputs, [out]))
        tensors.append(out)
    return gs.Graph(nodes, [tensors[0]], [tensors[-1]], opset=17)


@pytest.fixture(scope="session")
def large() -> Evidence:
    """2,000 nodes in 20 stages of 20 blocks of 5."""
    parts = ("conv1", "relu", "conv2", "add", "relu_1")
    names = [f"/stage.{s}/block.{b}/{p}/Op" for s in range(20) for b in range(20) for p in parts]
    return plain(chain(names), "large.onnx")


@pytest.fixture(scope="session")
def quantized_model() -> Callable[[str], Graph]:
    """`quantized_model(name)`: a quantized Conv of that name, as another tool would write it."""

    def make(name: str) -> Graph:
        model = onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["": 17]>
            g (float[1, 16, 4, 4] x) => (float[1, 16, 4, 4] y)
            <float s = {0.5}, int8 z = {0}, float w = {0.25}> {
                q = QuantizeLinear(x, s, z)
                d = DequantizeLinear(q, s, z)
                k = DequantizeLinear(codes, w, z)
                y = Conv(d, k)
            }"""
        )
        codes = np.arange(-128, 128).astype(np.int8).reshape(16, 16, 1, 1)
        model.graph.initializer.append(onnx.numpy_helper.from_array(codes, "codes"))
        model.graph.node[-1].name = name
        return gs.import_onnx(model)

    return make
