"""The safe fixes of `onnxq lint --fix`: each leaves the numbers of the graph as they were.

    UINT8 around 128:   clamp(round(x / s) + 128, 0, 255) - 128  =  clamp(round(x / s), -128, 127)

A fix is a function `context -> int` (how many places) that edits the graph in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.arrays import Array
from onnxq.model.graph import Graph, constant_of, is_output
from onnxq.model.qdq import Quantizer, spread_for
from onnxq.passes.apply import tidy
from onnxq.passes.name_axes import Shapes, name_axes, name_axes_by
from onnxq.passes.name_nodes import new_name
from onnxq.passes.remove_identity import remove_identity, replace_tensor
from onnxq.trt.context import Context, context_of
from onnxq.trt.rules_numbers import CENTRE
from onnxq.trt.rules_ops import concat_constants, scalar_constants
from onnxq.trt.rules_placement import same_numbers, stray_identities
from onnxq.trt.rules_shape import DEFAULT_AXIS, dims_of, missing_axes, one_element_scales
from onnxq.trt.rules_types import int32_biases

Fix = Callable[[Context], int]


def fix(graph: Graph, samples: Sequence[Shapes] = ()) -> tuple[Graph, dict[str, int]]:
    """A copy of `graph` with every safe fix, and how many places each rule's fix changed.

    samples: shapes of the inputs in samples of data, which tell axes apart.
    """
    out = graph.copy()
    out.import_domains = list(graph.import_domains) if graph.import_domains else None
    counts = {}
    for rule, one in FIXES.items():
        counts[rule] = one(context_of(out, samples))
        tidy(out)
    return out, {rule: count for rule, count in counts.items() if count}


def write_axes(ctx: Context) -> int:
    """Write the axis that ONNX means, or the only one along which the scales fit."""
    count = 0
    for node, _ in missing_axes(ctx):
        dims = dims_of(node.inputs[0]) or []  # type: ignore[union-attr]
        length = int(np.prod(node.inputs[1].shape))  # type: ignore[union-attr]
        fitting = [i for i, d in enumerate(dims) if d == length]
        if DEFAULT_AXIS in fitting or len(fitting) == 1:
            axis = DEFAULT_AXIS if DEFAULT_AXIS in fitting else fitting[0]
            node.attrs["axis"] = axis  # type: ignore[union-attr]
            count += 1
    return count


def dequantize_biases(ctx: Context) -> int:
    """INT32 constants under a DequantizeLinear become float."""
    return _to_float(ctx, {id(node) for node, _ in int32_biases(ctx)})


def dequantize_constants(ctx: Context) -> int:
    """Quantized constants that stop the builder become float."""
    places = (*scalar_constants(ctx), *concat_constants(ctx))
    return _to_float(ctx, {id(node) for node, _ in places})


def _to_float(ctx: Context, nodes: set[int]) -> int:
    count = 0
    for dq in ctx.quantizers:
        codes = constant_of(dq.data)
        if id(dq.node) not in nodes or codes is None or dq.scale is None:
            continue
        if is_output(ctx.graph, dq.out) or (codes.ndim == 0 and dq.per_channel):
            continue
        zero = 0 if dq.zero_point is None else dq.zero_point.astype(np.int32)
        wide = spread_for(dq.node, dq.scale, codes.shape)
        zero = spread_for(dq.node, np.broadcast_to(zero, dq.scale.shape), codes.shape)
        floats = (codes.astype(np.int32) - zero).astype(dq.scale.dtype) * wide
        name = new_name(f"{dq.out.name}_float", ctx.taken)
        constant = gs.Constant(name, np.asarray(floats, dq.scale.dtype))
        replace_tensor(dq.out, constant)
        count += 1
    return count


def lift_zero_scales(ctx: Context) -> int:
    """Channels of a stored weight with scale 0: codes become 0, the scale that of the largest.

    Pairs on a tensor with scale 0 go: the tensor was all zero, or the scale was wrong.
    """
    count = 0
    for dq in ctx.quantizers:
        if dq.quantizes or dq.scale is None or dq.block_size or not (dq.scale == 0).any():
            continue
        codes, before = constant_of(dq.data), ctx.quantizer(dq.data)
        if codes is not None and codes.dtype == np.int8 and _spreads(dq, codes):
            _lift(ctx, dq, codes)
            count += 1
        elif before is not None and before.quantizes and not is_output(ctx.graph, dq.out):
            replace_tensor(dq.out, before.data)
            count += 1
    return count


def _spreads(dq: Quantizer, codes: Array) -> bool:
    """Whether the scales lie along an axis of the codes."""
    axis = DEFAULT_AXIS if dq.axis is None else dq.axis
    if dq.scale is None or dq.scale.ndim > 1:
        return False
    if not dq.per_channel:
        return True
    inside = -codes.ndim <= axis < codes.ndim
    return inside and codes.shape[axis] == dq.scale.size


def _lift(ctx: Context, dq: Quantizer, codes: Array) -> None:
    scale: Array = dq.scale  # type: ignore[assignment]
    zero = np.asarray(spread_for(dq.node, scale, codes.shape) == 0)
    largest = scale[scale > 0].max() if (scale > 0).any() else 1
    _set(ctx, dq, 0, np.where(zero, 0, codes).astype(codes.dtype))
    _set(ctx, dq, 1, np.where(scale == 0, largest, scale).astype(scale.dtype))


def _set(ctx: Context, q: Quantizer, index: int, values: Array) -> None:
    """A new constant as input `index` of a Q or DQ; other readers keep the old one."""
    name = new_name(f"{q.out.name}_{('data', 'scale', 'zero_point')[index]}", ctx.taken)
    q.node.inputs[index] = gs.Constant(name, np.asarray(values))


def centre_uint8(ctx: Context) -> int:
    """UINT8 around zero point 128 becomes INT8 around 0, where every pair of it does."""
    count = 0
    for q in ctx.quantizers:
        if q.quantizes and _is_centred(q) and not is_output(ctx.graph, q.out):
            readers = [ctx.quantizer(n.outputs[0]) for n in q.out.outputs]
            if readers and all(r is not None and _is_centred(r) for r in readers):
                q.out.dtype = np.int8
                for one in (q, *readers):
                    _set(ctx, one, 2, np.zeros(one.zero_point.shape, np.int8))  # type: ignore
                count += 1
        codes = None if q.quantizes else constant_of(q.data)
        if codes is not None and codes.dtype == np.uint8 and _is_centred(q):
            _set(ctx, q, 0, (codes.astype(np.int16) - CENTRE).astype(np.int8))
            _set(ctx, q, 2, np.zeros(q.zero_point.shape, np.int8))  # type: ignore[union-attr]
            count += 1
    return count


def _is_centred(q: Quantizer) -> bool:
    zero = q.zero_point
    return zero is not None and zero.dtype == np.uint8 and bool((zero == CENTRE).all())


def merge_quantizers(ctx: Context) -> int:
    """Readers of a QuantizeLinear that is there twice read the first."""
    first: dict[int, list[Quantizer]] = {}
    count = 0
    for q in ctx.quantizers:
        if not q.quantizes or q.scale is None or is_output(ctx.graph, q.out):
            continue
        others = first.setdefault(id(q.data), [])
        same = next((o for o in others if same_numbers(o, q)), None)
        if same is None:
            others.append(q)
        else:
            replace_tensor(q.out, same.out)
            count += 1
    return count


def make_scalars(ctx: Context) -> int:
    """Scales and zero points of shape [1] become scalars."""
    nodes = {id(node) for node, _ in one_element_scales(ctx)}
    for q in ctx.quantizers:
        if id(q.node) in nodes:
            _set(ctx, q, 1, q.scale.reshape(()))  # type: ignore[union-attr]
            if q.zero_point is not None:
                _set(ctx, q, 2, q.zero_point.reshape(()))
    return len(nodes)


def rename_axes(ctx: Context) -> int:
    """Axes that share what is no name, or is one of two sizes, get names of their own."""
    return name_axes(ctx.graph) + name_axes_by(ctx.graph, ctx.samples)


def remove_identities(ctx: Context) -> int:
    """Identity beside Q/DQ goes, and with it every other that can."""
    return remove_identity(ctx.graph) if any(True for _ in stray_identities(ctx)) else 0


FIXES: Mapping[str, Fix] = {
    "axis-name": rename_axes,
    "stray-identity": remove_identities,
    "missing-axis": write_axes,
    "zero-point": centre_uint8,
    "int32-bias": dequantize_biases,
    "zero-scale": lift_zero_scales,
    "scalar-constant": dequantize_constants,
    "duplicate-quantizer": merge_quantizers,
    "scale-shape": make_scalars,
}
"""Rule -> its fix, in the order they are applied."""
