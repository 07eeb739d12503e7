"""Write NVFP4, as TensorRT's parser takes it; `fp4` says what the numbers are.

    activation x   (codes, b) <- TRT_FP4DynamicQuantize(x, s);  DQ(codes, DQ(b, s), axis, 16)
    weight w       FP4 initializer -> DQ(codes, DQ(b, s), axis, 16),   b an FP8 initializer

Scales and what is dequantized are float32, whatever the data is: a Cast behind them costs the
product nothing, and b s stays exact.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from ml_dtypes import float4_e2m1fn
from onnx import TensorProto
from onnx.helper import np_dtype_to_tensor_dtype

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.model.graph import Graph, Tensor, constant_from
from onnxq.spec import QuantSpec

FP8 = int(TensorProto.FLOAT8E4M3FN)
SUFFIXES = ("block_scale", "block_scale_dequantized", "block_scale_DequantizeLinear", "FP4Quantize",
            "dequantized_single", "Cast")  # fmt: skip
Parts = tuple[Array, Array]  # codes, and the scales b s


def weight_fp4(graph: Graph, tensor: Tensor, spec: QuantSpec, stem: str, parts: Parts) -> Tensor:
    """Add the nodes of a weight with these codes and scales to `graph`; the dequantized tensor, of
    the type of `tensor`."""
    codes, scale = parts
    b, s = fp4.factored(scale)
    stored = constant_from(f"{stem}_quantized", codes.astype(float4_e2m1fn))
    scales = gs.Constant(f"{stem}_block_scale", b), gs.Constant(f"{stem}_scale", s)
    return _dequantized(graph, tensor, spec, stem, (stored, *scales))


def activation_fp4(graph: Graph, tensor: Tensor, spec: QuantSpec, stem: str, s: Array) -> Tensor:
    """Add the nodes of an activation with the scale s to `graph`; the dequantized tensor, of the
    type of `tensor`."""
    scale = gs.Constant(f"{stem}_scale", np.asarray(s, np.float32))
    shape = list(tensor.shape)
    codes = gs.Variable(f"{stem}_quantized", int(TensorProto.FLOAT4E2M1), shape)
    axis = spec.axis or 0
    length = shape[axis]
    blocked = [*shape[:axis], length // fp4.BLOCK, *shape[axis + 1 :]]
    blocks = gs.Variable(f"{stem}_block_scale", FP8, blocked)
    attributes = {"axis": axis, "block_size": fp4.BLOCK, "scale_type": FP8}
    node = gs.Node(fp4.DYNAMIC, f"{stem}_FP4Quantize", attributes, [tensor, scale], [codes, blocks])
    node.domain = fp4.DOMAIN
    graph.nodes.append(node)
    return _dequantized(graph, tensor, spec, stem, (codes, blocks, scale))


def _dequantized(
    graph: Graph, tensor: Tensor, spec: QuantSpec, stem: str, inputs: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    codes, blocks, scale = inputs
    wide = gs.Variable(f"{stem}_block_scale_dequantized", np.float32, blocks.shape)
    name = f"{stem}_block_scale_DequantizeLinear"
    graph.nodes.append(gs.Node("DequantizeLinear", name, {}, [blocks, scale], [wide]))
    half = tensor.dtype is not None and tensor.dtype != np.float32
    out = gs.Variable(f"{stem}_dequantized{'_single' if half else ''}", np.float32, tensor.shape)
    attributes = {"axis": spec.axis, "block_size": fp4.BLOCK}
    name = f"{stem}_DequantizeLinear"
    graph.nodes.append(gs.Node("DequantizeLinear", name, attributes, [codes, wide], [out]))
    if not half:
        return out
    cast = gs.Variable(f"{stem}_dequantized", tensor.dtype, tensor.shape)
    to = {"to": int(np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)))}
    graph.nodes.append(gs.Node("Cast", f"{stem}_Cast", to, [out], [cast]))
    return cast
