r"""Q/DQ beside nodes that run in FP16 or BF16, and beside those that stay FP32.

    x -> Q -> DQ -> node in half               Q and DQ in half
    x -> Q -> DQ -> node kept                  Q and DQ in FP32
    x -> Q -> DQ -> node in half               Q in half, the same codes for both
           \-> DQ -> node kept                 DQ in FP32

A Cast between a DequantizeLinear and a product would cost the product its integers: an engine runs
it in float. Not so with FP4: there what quantizes reads half, and a DQ gives FP32, which is cast.
Scales of FP32 Q/DQ are those of half, where half holds them.

A scale below the normal numbers of FP16 has few bits there, or none: `fit_scales` keeps it above
zero, and writes the codes of constants anew for the scale that FP16 holds.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import onnx_graphsurgeon as gs
from ml_dtypes import iinfo

from onnxq.arrays import Array
from onnxq.model.graph import Graph, Node, Tensor, constant_from, constant_of, is_output
from onnxq.model.qdq import dequantizer, dynamic_quantizer, gives_scales, spread_for, type_name
from onnxq.numerics import fits_fp16
from onnxq.passes.name_nodes import names_of, new_name
from onnxq.spec import DTYPES

FP16_MAX, E4M3_MAX = 65504.0, DTYPES["fp8"].qmax
FP16_NORMAL = 2.0**-14  # below it FP16 has fewer bits, down to 2^-24
PAIR = ("QuantizeLinear", "DequantizeLinear")


def beyond_fp16(tensor: Tensor) -> str | None:
    """Why FP16 cannot hold what a DequantizeLinear makes of codes; None where it can."""
    node = dequantizer(tensor)
    if node is None:
        return None
    scale = constant_of(node.inputs[1])
    if scale is None or scale.dtype != np.float32:
        return None
    if not fits_fp16(scale):
        return f"FP16 cannot hold the scale {scale.max():.3g} of '{tensor.name}'"
    reach = float(scale.max(initial=0.0)) * _largest_code(node)
    if reach > FP16_MAX:
        return f"'{tensor.name}' reaches {reach:.4g}, beyond FP16"
    return None


def _largest_code(node: Node) -> float:
    codes = constant_of(node.inputs[0])
    if codes is not None:
        return float(np.abs(codes.astype(np.float32)).max(initial=0.0))
    zero = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if zero is None or zero.dtype.kind not in "iu":
        return E4M3_MAX
    return float(np.iinfo(zero.dtype).max)


def single_pairs(graph: Graph, kept: Container[str]) -> set[str]:
    """Names of the Q/DQ that stay FP32, as what reads them does (`kept`); a DequantizeLinear that
    nodes of both types read is split in place."""
    main = {id(node) for node in graph.nodes}
    single = of_fp4(graph)
    taken = names_of(graph)
    dequantizers = [n for n in graph.nodes if n.op == "DequantizeLinear" and n.name not in single]
    for node in dequantizers:
        out = node.outputs[0]
        readers = [n for n in out.outputs if n.name in kept or id(n) not in main]
        if readers and (len(readers) < len(out.outputs) or is_output(graph, out)):
            single.add(_split(graph, node, readers, taken))
        elif readers:
            single.add(node.name)
    for node in [n for n in graph.nodes if n.op == "QuantizeLinear"]:
        readers = [r for n in node.outputs[0].outputs
                   for r in (n.outputs[0].outputs if n.op == "Clip" else [n])]  # fmt: skip
        if readers and all(n.name in single for n in readers):
            single.add(node.name)
    return single


def fit_scales(graph: Graph, single: Container[str]) -> int:
    """Give the Q/DQ that become FP16, those not in `single`, scales that FP16 holds, in place;
    returns how many scales changed. None above zero falls to zero, and integer codes of a constant
    stand for the same values as before, to half a step."""
    new: dict[str, gs.Constant] = {}
    taken = names_of(graph)
    pairs = [n for n in graph.nodes if n.op in PAIR]
    for node in pairs:
        scale = node.inputs[1]
        values = constant_of(scale)
        if node.name in single or scale.name in new or values is None:
            continue
        held = _held(values)
        if held is not None:
            new[scale.name] = gs.Constant(new_name(f"{scale.name}_held", taken), held)
    for node in pairs:  # those in `single` too: Q and DQ of a tensor have one scale
        scale = node.inputs[1]
        if scale.name in new:
            _rewrite_codes(node, new[scale.name].values, taken)
            node.inputs[1] = new[scale.name]
    return len(new)


def _held(scale: Array) -> Array | None:
    """The scale, float32, that FP16 holds in place of one with values below its normal numbers;
    None where it holds it as it is."""
    if scale.dtype != np.float32:
        return None
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
    above = np.nextafter(half, np.float16(np.inf))
    half = np.where(half < scale, above, half).astype(np.float32)  # up: no code beyond the last
    held = np.where((scale > 0) & (scale < FP16_NORMAL), half, scale)
    return None if np.array_equal(held, scale) else held


def _rewrite_codes(node: Node, held: Array, taken: set[str]) -> None:
    """Round the constant codes that a DequantizeLinear reads anew, for another scale."""
    codes, scale = constant_of(node.inputs[0]), constant_of(node.inputs[1])
    zero = constant_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1, np.int8)
    if node.op != "DequantizeLinear" or codes is None or scale is None or zero is None:
        return
    ratio = np.divide(scale, held, where=held > 0, out=np.ones(scale.shape, np.float64))
    by, origin = (spread_for(node, x.astype(np.float64), codes.shape) for x in (ratio, zero))
    values = (codes.astype(np.float64) - origin) * by + origin
    if not (type_name(codes.dtype) or "").startswith("FLOAT"):
        grid = iinfo(codes.dtype)  # type: ignore[no-untyped-call]
        values = np.clip(np.rint(values), grid.min, grid.max)
    name = new_name(f"{node.inputs[0].name}_held", taken)
    node.inputs[0] = constant_from(name, values.astype(codes.dtype))


def of_fp4(graph: Graph) -> set[str]:
    """Names of the DequantizeLinear of FP4 and of its scales, which are FP32 in any graph: what
    reads them in half reads a Cast."""
    found = set()
    for node in graph.nodes:
        if node.op == "DequantizeLinear" and _reads_fp4(node):
            found.add(node.name)
            found |= {n.name for n in node.inputs[1].inputs if gives_scales(n)}
    return found


def _reads_fp4(node: Node) -> bool:
    return type_name(node.inputs[0].dtype) == "FLOAT4E2M1" or dynamic_quantizer(node) is not None


def _split(graph: Graph, node: Node, readers: list[Node], taken: set[str]) -> str:
    """Give `readers` a DequantizeLinear of their own; its name."""
    out = node.outputs[0]
    copy = gs.Variable(new_name(f"{out.name}_single", taken), out.dtype, out.shape)
    name = new_name(f"{node.name}_single", taken)
    graph.nodes.append(gs.Node(node.op, name, dict(node.attrs), list(node.inputs), [copy]))
    for reader in readers:
        reader.inputs = [copy if t is out else t for t in reader.inputs]
    return name
