"""Insert QuantizeLinear/DequantizeLinear where a plan says, with the ranges that were read.

    activation x  ->  Q(x, s, z) -> DQ -> every planned consumer        (one pair a tensor)
    weight w      ->  INT8 initializer -> DQ(axis)                      (or float w -> Q -> DQ)
    4 bits in INT8 storage, float w -> Q -> Clip(-8, 7) -> DQ           (QCDQ)

The zero point z is 0 but for uint8. Biases stay float. `axis` is always written: ONNX's default is
1, TensorRT's parser's is 0. INT4 is packed, two codes a byte. Weights that were rounded elsewhere
come as `Codes`.
In a body of an If, Loop or Scan, Q/DQ stands beside the node that reads it.
Scales have the type of the data, float32, float16 or bfloat16; the latter two need opset 19. A
scale of float32 data that FP16 cannot hold is not rounded to it: its readers stay float32.
FP8 has its type in an attribute and no zero point: ONNX Runtime takes an FP8 zero point for one of
UINT8, and then a Relu in front of the Q for needless. FP4 is written by `insert_fp4`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.errors import OnnxqError, PlanError
from onnxq.model.graph import (
    Graph,
    Tensor,
    constant_from,
    constant_of,
    node_by_name,
    scopes,
    uncollected,
)
from onnxq.numerics import (
    MIN_SCALE,
    Limit,
    amax_of,
    dequantize,
    fits_fp16,
    grid_of,
    has_scale,
    magnitude_of,
    quantize,
    scale_of,
)
from onnxq.passes import insert_fp4
from onnxq.passes.apply import tidy
from onnxq.passes.bias_room import revived, with_room
from onnxq.passes.misfit import DATA_TYPES, data_type, misfit
from onnxq.passes.name_nodes import names_of
from onnxq.plan import Plan
from onnxq.progress import steps
from onnxq.spec import Edge, QuantSpec

FP8 = TensorProto.FLOAT8E4M3FN


@dataclass(frozen=True)
class Codes:
    """A weight that is quantized already: `numerics.dequantize(codes, scale, spec)` is its value.

    scale: float32, of the shape of `numerics.amax_of`. codes: as `numerics.quantize` gives them.
    """

    scale: Array
    codes: Array


Weight = tuple[str, QuantSpec]  # the name of a constant, and how it is quantized


@dataclass(frozen=True)
class InsertOptions:
    """How Q/DQ is written.

    weights_as: "int" stores INT8 weights with a DequantizeLinear; "float" keeps float weights with
    a Q/DQ pair. scale_dtype: the type that scales of float32 data are rounded to, for a graph that
    is converted to it afterwards. weight_range: (weight, spec) -> amax. codes: of weights that are
    not simply rounded to nearest; their scales are of `scale_dtype` already. paired: names of
    weights that get a Q/DQ pair in any case.
    """

    weights_as: Literal["int", "float"] = "int"
    scale_dtype: str = "float32"
    weight_range: Callable[[Array, QuantSpec], Array] = amax_of
    codes: Mapping[Weight, Codes] = field(default_factory=dict)
    paired: Collection[str] = ()


@uncollected()
def insert_qdq(
    graph: Graph, plan: Plan, limits: Mapping[str, Limit], options: InsertOptions | None = None
) -> int:
    """Insert the plan's Q/DQ in place; returns how many edges were quantized.

    `limits` maps a source tensor's name to its range. Raises PlanError for an edge that the graph
    does not have, a spec that does not fit it, or a tensor without a range; the graph is then
    left as it was.
    """
    options = options or InsertOptions()
    made: dict[tuple[int, str, QuantSpec], _Pair] = {}
    owners = {node.name: scope for scope in scopes(graph) for node in scope.nodes}
    taken = names_of(graph)
    edges, nodes = _edges(graph, plan), node_by_name(graph)
    for edge, tensor, spec in steps("scales", edges, len(edges)):
        owner = owners[edge.node]
        if (id(owner), tensor.name, spec) not in made:
            scale, zero_point = _grid(plan, limits, tensor, spec, options)
            x = Edge(edge.node, 0)
            if edge.input == 1 and x in plan.edges and scale.dtype == np.float32:
                read = nodes[edge.node].inputs[0], plan.edges[x]
                scale = with_room(scale, nodes[edge.node], _grid(plan, limits, *read, options)[0])
            stem = _stem(tensor.name, taken)
            made[id(owner), tensor.name, spec] = _Pair(owner, tensor, spec, scale, zero_point, stem)
    pairs = steps("pairs", made.items(), len(made))
    outputs = {key: _insert(pair, options) for key, pair in pairs}
    for edge, tensor, spec in edges:
        read = outputs[id(owners[edge.node]), tensor.name, spec]
        nodes[edge.node].inputs[edge.input] = read
    tidy(graph)
    return len(edges)


@dataclass(frozen=True)
class _Pair:
    """A quantized tensor: the graph or body where its Q/DQ stands, its spec, its scale in the type
    of the data, the code of zero, the stem of new names."""

    graph: Graph
    tensor: Tensor
    spec: QuantSpec
    scale: Array
    zero_point: int
    stem: str


SUFFIXES = ("quantized", "dequantized", "scale", "zero_point", "QuantizeLinear", "DequantizeLinear",
            "rounded", "clipped", "qmin", "qmax", "Clip", *insert_fp4.SUFFIXES)  # fmt: skip


def _stem(name: str, taken: set[str]) -> str:
    """`name`, or with a number where a name made from it exists: two specs on one tensor."""
    candidates = itertools.chain([name], (f"{name}_{k}" for k in itertools.count(1)))
    stem = next(c for c in candidates if not any(f"{c}_{s}" in taken for s in SUFFIXES))
    taken.update(f"{stem}_{s}" for s in SUFFIXES)
    return stem


def _edges(graph: Graph, plan: Plan) -> list[tuple[Edge, Tensor, QuantSpec]]:
    """The plan's edges with their tensors; raises PlanError for one that cannot be quantized."""
    nodes = node_by_name(graph)
    found = []
    for edge, spec in plan.edges.items():
        node = nodes.get(edge.node)
        if node is None or edge.input >= len(node.inputs) or node.inputs[edge.input].is_empty():
            raise PlanError(
                f"the plan quantizes input {edge.input} of '{edge.node}', which this "
                "graph does not have; run 'onnxq plan' on this model"
            )
        tensor = node.inputs[edge.input]
        if problem := misfit(tensor, spec, graph.opset):
            raise PlanError(
                f"input {edge.input} of '{edge.node}', tensor '{tensor.name}': {problem}"
            )
        found.append((edge, tensor, spec))
    return found


def _grid(
    plan: Plan, limits: Mapping[str, Limit], tensor: Tensor, spec: QuantSpec, options: InsertOptions
) -> tuple[Array, int]:
    """The scale of a tensor, in the type of its data, and its zero point."""
    dtype = data_type(tensor)
    assert dtype is not None  # _misfit refused it
    values = constant_of(tensor)
    if values is not None:
        given = options.codes.get((tensor.name, spec))
        scale = weight_scale(values, spec, options) if given is None else given.scale
        return (scale if spec.dtype == "fp4" else scale.astype(dtype)), 0
    source = plan.source.get(tensor.name, tensor.name)
    if source not in limits:
        raise PlanError(
            f"no range for tensor '{source}'; run 'onnxq calibrate' on this model and plan"
        )
    if magnitude_of(limits[source]) == 0:
        raise PlanError(
            f"tensor '{source}' is zero in every sample: no scale; leave its readers float"
        )
    try:
        scale = grid_of(limits[source], spec)[0]
        if spec.dtype == "fp4":
            return scale, 0
        scale, zero_point = grid_of(limits[source], spec, _scale_dtype(dtype, scale, options))
        return scale.astype(dtype), zero_point
    except OnnxqError as e:
        raise PlanError(f"tensor '{source}': {e}") from e


def _scale_dtype(dtype: np.dtype[Any], scale: Array, options: InsertOptions) -> str:
    """The type that a float32 `scale` of data is rounded to: that of the data, or what float32 data
    becomes, unless that is an FP16 that cannot hold it."""
    if dtype != np.float32:
        return DATA_TYPES[dtype]
    fits = options.scale_dtype != "float16" or fits_fp16(scale)
    return options.scale_dtype if fits else "float32"


def weight_scale(values: Array, spec: QuantSpec, options: InsertOptions) -> Array:
    """The scale of a weight: per tensor, or one per channel; float32, rounded to its own type."""
    amax = np.asarray(options.weight_range(values, spec), np.float64)
    if spec.dtype == "fp4":  # every choice of ranges has the same s
        whole = float(np.abs(values).max(initial=0.0))
        return fp4.block_scales(amax, fp4.tensor_scale(whole, float(MIN_SCALE)))
    largest = scale_of(amax.max(initial=0.0), spec) * has_scale(amax, spec).any()
    return scale_of(revived(amax, spec), spec, _scale_dtype(values.dtype, largest, options))


def _insert(pair: _Pair, options: InsertOptions) -> Tensor:
    """Add the nodes of a pair to its graph; the dequantized tensor."""
    spec = pair.spec
    if spec.dtype == "fp4":
        return _insert_fp4(pair, options)
    storage = np.dtype(tensor_dtype_to_np_dtype(spec.row.onnx_type))
    zero_point = np.full(pair.scale.shape, pair.zero_point).astype(storage)
    parameters = [gs.Constant(f"{pair.stem}_scale", pair.scale)]
    if spec.row.onnx_type != FP8:
        parameters.append(constant_from(f"{pair.stem}_zero_point", zero_point))
    values = constant_of(pair.tensor)
    given = options.codes.get((pair.tensor.name, spec))
    paired = options.weights_as == "float" or pair.tensor.name in options.paired
    if values is not None and not paired:
        codes = _codes(given, values, pair)
        stored: Tensor = constant_from(f"{pair.stem}_quantized", codes.astype(storage))
    else:
        tensor = pair.tensor
        if values is not None and spec.dtype == "int4-in-fp8" and given is None:
            given = Codes(pair.scale, quantize(values, pair.scale, spec))  # Q would round to FP8
        if given is not None and values is not None:
            codes = _codes(given, values, pair)
            rounded = dequantize(codes, pair.scale, spec).astype(pair.scale.dtype)
            tensor = gs.Constant(f"{pair.stem}_rounded", rounded)
        stored = gs.Variable(f"{pair.stem}_quantized", spec.row.onnx_type, pair.tensor.shape)
        _add("QuantizeLinear", pair, [tensor, *parameters], stored)
        if spec.dtype == "int4-in-int8":
            stored = _clipped(pair, stored)
    out = gs.Variable(f"{pair.stem}_dequantized", pair.scale.dtype, pair.tensor.shape)
    _add("DequantizeLinear", pair, [stored, *parameters], out)
    return out


def _insert_fp4(pair: _Pair, options: InsertOptions) -> Tensor:
    values, place = constant_of(pair.tensor), (pair.graph, pair.tensor, pair.spec, pair.stem)
    if values is None:
        return insert_fp4.activation_fp4(*place, pair.scale)
    codes = _codes(options.codes.get((pair.tensor.name, pair.spec)), values, pair)
    return insert_fp4.weight_fp4(*place, (codes, pair.scale))


def _codes(given: Codes | None, values: Array, pair: _Pair) -> Array:
    """The codes of a weight; those given are rounded anew where the scale left room for a bias."""
    if given is not None and np.array_equal(given.scale, pair.scale):
        return given.codes
    rounded = values if given is None else dequantize(given.codes, given.scale, pair.spec)
    return quantize(rounded, pair.scale, pair.spec)


def _clipped(pair: _Pair, stored: Tensor) -> Tensor:
    """`stored` through a Clip to the 4-bit range."""
    row = pair.spec.row
    bounds = [gs.Constant(f"{pair.stem}_{name}", np.array(value, np.int8))
              for name, value in (("qmin", row.qmin), ("qmax", row.qmax))]  # fmt: skip
    out = gs.Variable(f"{pair.stem}_clipped", np.int8, pair.tensor.shape)
    pair.graph.nodes.append(gs.Node("Clip", f"{pair.stem}_Clip", {}, [stored, *bounds], [out]))
    return out


def _add(op: str, pair: _Pair, inputs: list[Tensor], out: Tensor) -> None:
    attributes = {} if pair.spec.axis is None else {"axis": pair.spec.axis}
    if pair.spec.block_size is not None:
        attributes["block_size"] = pair.spec.block_size
    if op == "QuantizeLinear" and pair.spec.row.onnx_type == FP8:
        attributes["output_dtype"] = FP8
    pair.graph.nodes.append(gs.Node(op, f"{pair.stem}_{op}", attributes, inputs, [out]))
