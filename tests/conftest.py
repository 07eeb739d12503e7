"""What the tests share: graphs from ONNX text, and their numbers by ONNX Runtime."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

# Before NumPy is there, for commands that tests start too: each product of a few rows would start
# threads that wait for the next one at full speed, and take the cores of the other tests.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import settings
from onnx.numpy_helper import to_array

from onnxq.model.graph import Graph, from_proto, to_proto

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

Arrays = Mapping[str, np.ndarray]

settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests go first: none is left to run alone at the end, beside idle workers."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    """A command that a test runs says how much is logged; the next test does not inherit it."""
    log = logging.getLogger("onnxq")
    level, handlers = log.level, list(log.handlers)
    yield
    log.setLevel(level)
    log.handlers[:] = handlers


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`made_once("name", make)`: a folder that `make(folder)` filled, in one worker for all."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made = root / name
        with open(root / f"{name}.lock", "w") as lock:
            if fcntl is not None:  # the others wait here
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / f"{name}.made").exists():
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
                make(made)
                (root / f"{name}.made").touch()
        return made

    return folder


@pytest.fixture(scope="session")
def graph_of() -> Callable[..., Graph]:
    """`graph_of(body, weights={}, opset=17)`: the body is `(inputs) => (outputs) {nodes}`."""

    def parse(body: str, weights: Arrays | None = None, opset: int = 17) -> Graph:
        header = f'<ir_version: 8, opset_import: ["": {opset}, "my": 1]> g '
        model = onnx.parser.parse_model(header + body)
        constants = [a.t for n in model.graph.node for a in n.attribute if a.HasField("t")]
        for tensor in (*model.graph.initializer, *constants):  # as exporters write them: raw
            tensor.CopyFrom(onnx.numpy_helper.from_array(to_array(tensor), tensor.name))
        for name, values in (weights or {}).items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        return from_proto(model)

    return parse


@pytest.fixture(scope="session")
def run_graph() -> Callable[[Graph, Arrays], list[np.ndarray]]:
    """The outputs of a graph, with ONNX Runtime's own fusions off: they would hide a pass."""

    def run(graph: Graph, feeds: Arrays) -> list[np.ndarray]:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(
            to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run([t.name for t in graph.outputs], dict(feeds))

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
