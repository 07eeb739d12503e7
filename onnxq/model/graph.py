"""Graphs: read, write, ask.

A `Graph` is an onnx-graphsurgeon graph. Everything that reads or writes a model file goes through
here, so that external data and truncated files are handled in one place.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from ml_dtypes import float4_e2m1fn, int4
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter
from onnx_graphsurgeon.ir.tensor import LazyValues
from onnx_graphsurgeon.logger import G_LOGGER

from onnxq.arrays import Array
from onnxq.errors import ModelError
from onnxq.files import drop, replacing, together
from onnxq.model import located, mapped, model_file, stored
from onnxq.model.damage import stored_tensors
from onnxq.model.external import replaced_data
from onnxq.model.model_file import ModelFile, ModelLike
from onnxq.model.other_types import keep_types, write_types
from onnxq.model.stored import Stored
from onnxq.model.whole import pieces

Graph: TypeAlias = Any  # gs.Graph; onnx-graphsurgeon has no type hints
Node: TypeAlias = Any  # gs.Node
Tensor: TypeAlias = Any  # gs.Tensor: gs.Variable or gs.Constant

PROTOBUF_LIMIT = 2 * 1024**3 - 64 * 1024**2  # a protobuf message ends at 2 GB
PACKED = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.FLOAT4E2M1)
G_LOGGER.severity = G_LOGGER.CRITICAL + 1  # it prints to stdout, where results go; errors raise
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def load_proto(path: str | Path) -> onnx.ModelProto:
    """The model file at `path`, external data included; raises ModelError as `load` does."""
    model = model_file.parse(Path(path))
    located.fill(model)
    return model


def load(path: str | Path) -> Graph:
    """The graph of the model file at `path`; external weights are mapped, not read.

    Raises ModelError for a file that is missing, is not ONNX, is truncated, lacks its data or names
    data that is not its own.
    """
    return from_proto(model_file.parse(Path(path)))


def read(model: ModelLike) -> tuple[Graph, ModelFile]:
    """The graph as `load` reads it, and the file that it was read from."""
    proto, file = model_file.read(model)
    return from_proto(proto), file


def quietly() -> contextlib.AbstractContextManager[None]:
    """Within it onnx-graphsurgeon does not warn of the types that NumPy does not have."""
    quiet: contextlib.AbstractContextManager[None] = G_LOGGER.suppress(G_LOGGER.ERROR)
    return quiet


def from_proto(model: onnx.ModelProto) -> Graph:
    """The graph of a model in memory.

    Graphs without a name get one, as ONNX wants, and the IR version is that from which on constants
    need not be inputs too: here they never are. What an input declares holds, whatever is said of
    its shape elsewhere.
    """
    try:
        with quietly(), uncollected():
            graph = gs.import_onnx(model)
            for scope in scopes(graph):
                scope.name = scope.name or "graph"
            graph.ir_version = max(graph.ir_version or 0, 4)
            _believe_inputs(graph, model)
            keep_types(graph, model)
            stored.attach(constants(graph))
            return graph
    except Exception as e:  # gs raises whatever it stumbles over
        raise ModelError(f"the graph '{model.graph.name}' cannot be read: {e}") from e


def _believe_inputs(graph: Graph, model: onnx.ModelProto) -> None:
    """onnx-graphsurgeon takes the first that it reads of a tensor: value_info before inputs."""
    elsewhere = {info.name for info in model.graph.value_info}
    declared = {info.name: info for info in model.graph.input if info.name in elsewhere}
    for tensor in graph.inputs:
        if tensor.name in declared:
            fresh = OnnxImporter.import_tensor(declared[tensor.name])
            tensor.dtype, tensor.shape = fresh.dtype, fresh.shape


def to_proto(graph: Graph, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """The ONNX model of a graph, with `metadata` as metadata_props.

    Weights that are in files stay there: the model names them by absolute path (see `stored`).
    """
    stored.unload(constants(graph))
    try:
        with quietly(), uncollected():
            model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    except (ValueError, TypeError) as e:  # of values that onnx has no form for
        raise ModelError(f"the graph '{graph.name}' cannot be written: {e}") from e
    write_types(graph, model)
    if metadata:
        onnx.helper.set_model_props(model, dict(metadata))
    return model


def save(
    graph: Graph,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    external_data: bool = False,
) -> int:
    """Write a graph to `path`, whole or not at all; returns how many bytes that took.

    Weights go to a file beside it if asked, or if the model would pass 2 GB. Its name,
    `<name>.<digest>.data`, is of its content: a model never stands over the weights of another. The
    file of the model that is replaced goes, unless another model in the folder names it too.
    """
    path = Path(path)
    model = to_proto(graph, metadata)
    with together():
        if external_data or weight_bytes(graph) >= PROTOBUF_LIMIT:
            owners: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
            tensors = [tensor for owner in owners for tensor in stored_tensors(owner)]
            data, beside = _write_data([t for t in tensors if located.is_large(t, 1024)], path)
        else:
            data, beside = None, 0
        mapped.release()  # what is mapped of weights need not stand beside what is written
        with replacing(path, last=True) as temporary, open(temporary, "wb") as out:
            size = sum(map(out.write, pieces(model)))
        for old in replaced_data(path, data):
            drop(old)
    return size + beside


def _write_data(tensors: list[onnx.TensorProto], path: Path) -> tuple[Path, int]:
    """Let tensors name a file beside the model at `path`, and write it unless it is there: the file
    and its size."""
    digest = located.Digest()
    places = located.write(tensors, digest)
    data = path.with_name(f"{path.name}.{digest.hex()[:12]}.data")
    if not (data.is_file() and located.digest_of(data) == digest.hex()):
        with replacing(data) as temporary, open(temporary, "wb") as out:
            located.write(tensors, out)
    located.place(tensors, data.name, places)
    return data, digest.tell()


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within it Python does not look for cycles of garbage.

    It looks the more often the more objects a graph has, in vain while one is made: at 10,000
    nodes that takes half the time of a pass. Use it for one pass, not for runs.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def constants(graph: Graph) -> list[Tensor]:
    """All constants of the main graph."""
    return [t for t in graph.tensors().values() if isinstance(t, gs.Constant)]


def weight_bytes(graph: Graph) -> int:
    """Bytes of all constants of the graph."""
    return sum(int(t._values.nbytes) for t in constants(graph))  # .values would load them


def node_by_name(graph: Graph) -> dict[str, Node]:
    """Every node by its name, those in the bodies of If, Loop and Scan included."""
    return {node.name: node for scope in scopes(graph) for node in scope.nodes}


def scopes(graph: Graph) -> list[Graph]:
    """The graph itself, and the bodies of its If, Loop and Scan nodes, outer ones first."""
    return [graph, *graph.subgraphs(recursive=True)]


def within(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes, each followed by those in its bodies."""
    for node in nodes:
        yield node
        for body in node.subgraphs(recursive=True):
            yield from body.nodes


def is_standard(node: Node) -> bool:
    """Whether a node is in ONNX's own domain."""
    return node.domain in (None, "", "ai.onnx")


def is_custom(node: Node) -> bool:
    """Whether onnx has no definition of this op: of another domain, or unknown in its own."""
    return not is_standard(node) or not onnx.defs.has(node.op)


def producer(tensor: Tensor) -> Node | None:
    """The node that writes `tensor`; None for graph inputs and constants."""
    return tensor.inputs[0] if tensor.inputs else None


def behind(tensor: Tensor, ops: Container[str]) -> Tensor:
    """The tensor that `tensor` comes from by the first inputs of nodes of the types `ops`."""
    node = producer(tensor)
    while node is not None and node.op in ops:
        tensor = node.inputs[0]
        node = producer(tensor)
    return tensor


def is_output(graph: Graph, tensor: Tensor) -> bool:
    """Whether `tensor` is an output of the graph."""
    return any(tensor is out for out in graph.outputs)


def constant_from(name: str, values: Array) -> Tensor:
    """A constant tensor; onnx-graphsurgeon cannot write an INT4 or FP4 array, but a packed one it
    can."""
    if values.dtype not in (int4, float4_e2m1fn):
        return gs.Constant(name, values)
    with quietly():
        return gs.Constant(name, LazyValues(onnx.numpy_helper.from_array(values, name)))


def constant_of(tensor: Tensor) -> Array | None:
    """The values of a constant tensor (initializer or Constant node); None if it is computed."""
    if isinstance(tensor, gs.Constant):
        return _loaded(tensor)
    node = producer(tensor)
    if node is not None and node.op == "Constant" and "value" in node.attrs:
        value = node.attrs["value"]
        return np.asarray(value.values if isinstance(value, gs.Constant) else value)
    return None


def _loaded(tensor: Tensor) -> Array:
    """Its values. Those of types beyond NumPy's are not kept: they could not be written again."""
    lazy = tensor._values
    if isinstance(lazy, Stored):
        return np.asarray(lazy.load())
    if isinstance(lazy, LazyValues) and (isinstance(lazy.dtype, int) or _is_packed(lazy)):
        with quietly():
            return np.asarray(lazy.load())
    return np.asarray(tensor.values)


def _is_packed(lazy: Any) -> bool:
    """Whether ONNX keeps several values in a byte, where NumPy has one."""
    return lazy.tensor.data_type in PACKED
