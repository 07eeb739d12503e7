"""Schemes: which types weights and activations get, and which targets run them.

A scheme is data. A placement rule says which edges are quantized; the scheme says how.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnxq.errors import PlanError


@dataclass(frozen=True)
class Scheme:
    """The dtypes of a scheme.

    weight: of weights. conv_weight: of those of Conv and ConvTranspose. activation: None for a
    scheme that quantizes weights alone. blocks: whether a weight of MatMul or Gemm may have a
    scale for each block. targets: those that run it. instead: the scheme of the nodes that have no
    kernel in this one.
    """

    name: str
    weight: str
    conv_weight: str
    activation: str | None
    targets: tuple[str, ...]
    about: str
    blocks: bool = False
    instead: str | None = None


BOTH, ORT, TRT = ("tensorrt", "onnxruntime"), ("onnxruntime",), ("tensorrt",)

SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("w8a8", "int8", "int8", "int8", BOTH, "INT8 weights and activations"),
        Scheme("w8a16", "int8", "int8", None, BOTH, "INT8 weights, float activations"),
        Scheme("w4a16", "int4", "int4", None, BOTH, "INT4 weights, float activations", True),
        Scheme("w4a8", "int4-in-int8", "int4-in-int8", "int8", BOTH,
               "4-bit weights, stored as INT8 where a kernel multiplies them by INT8 activations"),
        Scheme("fp8", "fp8", "fp8", "fp8", BOTH, "FP8 E4M3 weights and activations"),
        Scheme("w4afp8", "int4-in-fp8", "int4-in-fp8", "fp8", BOTH,
               "4-bit weights, stored as FP8 where a kernel multiplies them by FP8 activations"),
        Scheme("nvfp4", "fp4", "fp8", "fp4", TRT,
               "FP4 E2M1 weights and activations in MatMul and Gemm, from Blackwell; FP8 elsewhere",
               instead="fp8"),
        Scheme("w8aint16", "int8", "int8", "int16", ORT, "INT8 weights, INT16 activations"),
        Scheme("w16a16", "int16", "int16", "int16", ORT, "INT16 with calibrated scales"),
        Scheme("fixed88", "fixed88", "fixed88", "fixed88", ORT,
               "fixed point, 8 bits before and 8 behind the point: every scale is 1/256"),
    )
}  # fmt: skip
# TensorRT multiplies no INT4 by INT8 or FP8, and no blocks but those of INT4 weights alone. ONNX
# Runtime dequantizes such weights: there they are packed and may have blocks.
IN_ONNXRUNTIME: dict[str, Scheme] = {
    "w8a16": replace(SCHEMES["w8a16"], blocks=True),
    "w4a8": replace(SCHEMES["w4a8"], weight="int4", blocks=True),
    "w4afp8": replace(SCHEMES["w4afp8"], weight="int4", blocks=True),
}
BLOCK_SIZES = (16, 32, 64, 128)
# What schemes are called elsewhere.
SPOKEN = {"int8": "w8a8", "int4": "w4a16", "w4": "w4a16", "int16": "w16a16", "e4m3": "fp8",
          "fp4": "nvfp4"}  # fmt: skip


def scheme(name: str, target: str) -> Scheme:
    """The scheme called `name`, as `target` runs it.

    Raises PlanError for one that is unknown or that the target cannot run.
    """
    runs = [s.name for s in SCHEMES.values() if target in s.targets]
    if name not in SCHEMES:
        raise PlanError(f"unknown scheme '{name}'; choose one of {', '.join(runs)}")
    if name not in runs:
        others = " or ".join(t for t in SCHEMES[name].targets)
        raise PlanError(
            f"--target {target} cannot run scheme '{name}'; choose one of {', '.join(runs)}, or "
            f"--target {others}"
        )
    return IN_ONNXRUNTIME.get(name, SCHEMES[name]) if target in ORT else SCHEMES[name]


def file_name(stem: str, name: str) -> str:
    """What a model that is quantized by the scheme called `name` is called where nobody says."""
    return f"{stem}.{'int8' if name == 'w8a8' else name}.onnx"
