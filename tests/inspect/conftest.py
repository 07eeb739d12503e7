"""Models of ONNX text, saved and read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array

from onnxq.inspect.reading import Reading, read


@pytest.fixture
def saved(tmp_path) -> Callable[..., Path]:
    """`saved(body, **arrays)`: a model file of these nodes, from float x to float y."""

    def save(body: str, opset: int = 21, name: str = "model.onnx", **arrays: np.ndarray) -> Path:
        model = onnx.parser.parse_model(
            f'<ir_version: 10, opset_import: ["": {opset}]>'
            f"g (float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) {{ {body} }}"
        )
        model.graph.initializer.extend(from_array(a, n) for n, a in arrays.items())
        onnx.checker.check_model(model)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def reading(saved) -> Callable[..., Reading]:
    """The same, read."""
    return lambda *args, **arrays: read(saved(*args, **arrays))
