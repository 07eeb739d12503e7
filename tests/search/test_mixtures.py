"""Models of INT4, INT8 and float nodes: what they hold, and that runtimes take them."""

from dataclasses import dataclass

import numpy as np
import pytest

from onnxq.calib.data import Dataset
from onnxq.calib.holdout import held_out
from onnxq.calib.stats import Stats
from onnxq.model.graph import Graph, constant_of, node_by_name, producer, save
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.search import Palette, choices_of, palette_of
from onnxq.spec import Edge
from onnxq.trt.build import BuildOptions, build
from onnxq.trt.engine import coverage, load_engine

CONFIG = Config(weight_method="mse", recover="none")


@dataclass(frozen=True)
class Case:
    """A fixture with what a mixture of it needs."""

    source: steps.Source
    palette: Palette
    stats: Stats
    held: Dataset

    def mixture(self, *cycle: str) -> Plan:
        """The plan in which weighted nodes take these choices in turn, the rest the first."""
        weighted = self.palette.plans["int4"].nodes
        turns = {n: cycle[i % len(cycle)] for i, n in enumerate(weighted)}
        return self.palette.mix({**dict.fromkeys(self.palette.nodes, "int8"), **turns})

    def model(self, plan: Plan) -> Graph:
        """The quantized model of a plan."""
        ranges = steps.read(self.source, plan, self.stats, "mse")
        return steps.insert(self.source, plan, ranges, CONFIG)

    def sqnr(self, plan: Plan) -> float:
        """Of the model of a plan through ONNX Runtime, in dB, at the worst output."""
        found = steps.compare(self.source, self.model(plan), self.held, CONFIG)
        return min(agreement.sqnr_db for agreement in found.values())


@pytest.fixture(scope="module", params=[("classifier", "calib.npy"), ("transformer", "calib.npz")],
                ids=lambda param: param[0])  # fmt: skip
def case(request):
    name, data = request.param
    folder = request.config.rootpath / "fixtures" / name
    source = steps.prepare(folder / f"{name}.onnx", CONFIG)
    palette = palette_of(source, CONFIG, choices_of("int4,int8,float", None, CONFIG.placement))
    rest, held = held_out(steps.data(source, [str(folder / data)], CONFIG), 8)
    return Case(source, palette, steps.calibrate(source, palette.everything, rest, CONFIG), held)


def test_every_weight_has_the_codes_that_were_chosen_for_its_node(case):
    plan = case.mixture("int4", "int8", "float")
    nodes = node_by_name(case.model(plan))
    seen = set()
    for name in case.palette.plans["int4"].nodes:
        spec, weight = plan.edges.get(Edge(name, 1)), nodes[name].inputs[1]
        if spec is None:
            assert constant_of(weight) is not None
            seen.add("float")
            continue
        codes = constant_of(producer(weight).inputs[0])
        bits = spec.row.bits
        assert codes.min() >= -(2 ** (bits - 1))
        assert codes.max() < 2 ** (bits - 1)
        seen.add(bits)
    assert seen == {4, 8, "float"}


def test_onnx_runtime_runs_the_mixture_and_its_noise_is_between_that_of_its_parts(case):
    int4, mixed = case.sqnr(case.mixture("int4")), case.sqnr(case.mixture("int4", "int8", "float"))
    int8 = case.sqnr(case.mixture("int8"))
    assert np.isfinite(mixed)
    assert int4 < mixed < int8


def test_tensorrt_builds_the_mixture_and_runs_its_quantized_nodes_in_int8(case, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX, which builds without a GPU")
    plan = case.mixture("int4", "int8", "float")
    save(case.model(plan), tmp_path / "m.onnx")
    sample = case.held.sample(0)
    shapes = tuple(f"{name}:{'x'.join(map(str, x.shape))}" for name, x in sample.items())
    built = build(tmp_path / "m.onnx", tmp_path / "m.engine",
                  options=BuildOptions("tensorrt-rtx", arch="sm89", shapes=shapes))  # fmt: skip
    assert built.engine is not None, built.problems
    engine = load_engine(built.engine)
    weighted = case.palette.plans["int4"].nodes
    quantized = [n for n in weighted if n in plan.nodes]
    assert set(coverage(engine, quantized).values()) == {"int8"}
    assert "int8" not in coverage(engine, [n for n in weighted if n not in quantized]).values()
