"""What ONNX Runtime says when it refuses a model, in one line that says what to do."""

from __future__ import annotations

import re

from onnxq.errors import CannotRun


def first_line(error: Exception) -> str:
    """The reason in one of ONNX Runtime's messages: one line without source paths and codes."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"\S*/\S+\.(?:cc|h|cpp|cu):\d+ ", "", text)
    text = re.sub(r"^(?:Load model from .* failed|Exception during \w+|Fatal error): ?", "", text)
    return text.strip()[:300]


def explained(error: Exception) -> CannotRun:
    """The error to raise for one of ONNX Runtime's."""
    text = str(error)
    unknown = re.search(r"Fatal error: ([\w.:-]+?)(?:\(-?\d+\))? is not a registered", text)
    unknown = unknown or re.search(r"No Op registered for ([\w.:-]+)", text)
    unknown = unknown or re.search(r"Could not find an implementation for ([\w.:-]+?)\(", text)
    if unknown:
        return CannotRun(
            f"ONNX Runtime has no op '{unknown[1]}'; give its library with --ort-library lib.so, "
            "or a Python module that declares it with --ort-extension"
        )
    return CannotRun(f"ONNX Runtime cannot run the model: {first_line(error)}")
