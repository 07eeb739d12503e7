"""What ONNX Runtime's optimizers must not do: change what a Q/DQ model computes.

Each is named for what ONNX Runtime 1.31 or 1.32 was seen to do; tests/test_runtime.py holds the
cases.
"""

from __future__ import annotations

import onnx

# Rounds float biases behind Q/DQ to INT32, which TensorRT does not, and goes wrong in FP16 graphs.
BIAS_ROUNDING = "WeightBiasQuantization"
FUSES_CODES = "QDQSelectorActionTransformer"  # makes a Concat of FP16 one that has no FP16
# From opset 21 on it says the type of a Q that it moves, and another optimizer then changes the
# zero point's: a model with MatMul and Add behind activations of three axes cannot be loaded.
MOVES_CODES, TYPED_OPSET = "QDQPropagationTransformer", 21
# These take FP8 for an integer type: a product of integers that does not exist, a Q moved past a
# Transpose that has no FP8, and, without a word, no more Relu in front of the Q.
NOT_FOR_FP8 = (FUSES_CODES, MOVES_CODES, "ReluQuantRewrite", "ClipQuantRewrite")
FP8 = {
    onnx.TensorProto.FLOAT8E4M3FN,
    onnx.TensorProto.FLOAT8E4M3FNUZ,
    onnx.TensorProto.FLOAT8E5M2,
    onnx.TensorProto.FLOAT8E5M2FNUZ,
}


def disabled(model: onnx.ModelProto) -> list[str]:
    """The optimizers, by name, that would change what `model` computes."""
    without = {BIAS_ROUNDING, *(NOT_FOR_FP8 if _has_fp8(model.graph) else ())}
    if any(o.domain in ("", "ai.onnx") and o.version >= TYPED_OPSET for o in model.opset_import):
        without.add(MOVES_CODES)
    return sorted(without | ({FUSES_CODES} if _joins_halves(model.graph) else set()))


def _joins_halves(graph: onnx.GraphProto) -> bool:
    """Whether a Concat reads what DequantizeLinear nodes make of FP16 scales."""
    halves = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    made = {n.output[0] for n in graph.node
            if n.op_type == "DequantizeLinear" and n.input[1] in halves}  # fmt: skip
    return any(n.op_type == "Concat" and made.issuperset(n.input) for n in graph.node)


def _has_fp8(graph: onnx.GraphProto) -> bool:
    """Whether a constant or the output of a QuantizeLinear is FP8, in subgraphs too."""
    attributes = [a for node in graph.node for a in node.attribute]
    types = {t.data_type for t in graph.initializer}
    types |= {a.t.data_type for a in attributes if a.HasField("t")}
    types |= {a.i for a in attributes if a.name == "output_dtype"}
    return bool(types & FP8) or any(_has_fp8(a.g) for a in attributes if a.HasField("g"))
