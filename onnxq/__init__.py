"""onnxq: quantize exported ONNX graphs for TensorRT."""

from __future__ import annotations

__version__ = "0.1.0"
