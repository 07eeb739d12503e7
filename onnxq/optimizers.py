"""What ONNX Runtime's optimizers must not do: change what a Q/DQ model computes.

Each is named for what ONNX Runtime 1.31 was seen to do; tests/test_runtime.py holds the cases.
"""

from __future__ import annotations

import onnx

# Rounds float biases behind Q/DQ to INT32, which TensorRT does not, and goes wrong in FP16 graphs.
BIAS_ROUNDING = "WeightBiasQuantization"
# These take FP8 for an integer type: a product of integers that does not exist, a Q moved past a
# Transpose that has no FP8, and, without a word, no more Relu in front of the Q.
NOT_FOR_FP8 = (
    "QDQSelectorActionTransformer",
    "QDQPropagationTransformer",
    "ReluQuantRewrite",
    "ClipQuantRewrite",
)
FP8 = {
    onnx.TensorProto.FLOAT8E4M3FN,
    onnx.TensorProto.FLOAT8E4M3FNUZ,
    onnx.TensorProto.FLOAT8E5M2,
    onnx.TensorProto.FLOAT8E5M2FNUZ,
}


def disabled(model: onnx.ModelProto) -> list[str]:
    """The optimizers, by name, that would change what `model` computes."""
    return [BIAS_ROUNDING, *(NOT_FOR_FP8 if _has_fp8(model.graph) else ())]


def _has_fp8(graph: onnx.GraphProto) -> bool:
    """Whether a constant or the output of a QuantizeLinear is FP8, in subgraphs too."""
    attributes = [a for node in graph.node for a in node.attribute]
    types = {t.data_type for t in graph.initializer}
    types |= {a.t.data_type for a in attributes if a.HasField("t")}
    types |= {a.i for a in attributes if a.name == "output_dtype"}
    return bool(types & FP8) or any(_has_fp8(a.g) for a in attributes if a.HasField("g"))
