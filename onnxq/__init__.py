"""onnxq: quantize exported ONNX graphs for TensorRT.

    result = onnxq.quantize("model.onnx", ["calib.npy"])
    onnxq.write(result, "model.int8.onnx")

All verbs live in `onnxq.api`; these two are loaded when first used, so `import onnxq` is fast.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from onnxq.moved import OldNames

__version__ = "0.2.0.dev0"

_VERBS = ("quantize", "write")  # not `plan`: that is a module of this package
_VALUES = {"Config": "onnxq.pipeline.config", "PlanOptions": "onnxq.targets.options"}

sys.meta_path.append(OldNames())


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module("onnxq.api"), name)
    if name in _VALUES:
        return getattr(importlib.import_module(_VALUES[name]), name)
    raise AttributeError(f"module 'onnxq' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *_VERBS, *_VALUES]
