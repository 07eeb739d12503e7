"""Vision transformers of `benchmarks/vision.py`, small: every product on INT8 in an FP16 engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxq import api
from onnxq.model.graph import load
from onnxq.pipeline.config import Config
from onnxq.trt.engine import Engine
from onnxq.trt.verdict import judge

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from vision import SIDE, swin, vit

SMALL = {"vit": (vit(1, 64, SIDE, 8), 7), "swin": (swin(), 26)}


@pytest.mark.parametrize("name", ["vit", pytest.param("swin", marks=pytest.mark.slow)])
def test_every_product_of_a_vision_transformer_runs_in_int8(
    name: str,
    engine_of_graph: Callable[..., Engine],
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    model, products = SMALL[name]
    path = tmp_path / "vision.onnx"
    onnx.save(model, path)
    images = rng.standard_normal((8, 3, SIDE, SIDE)).astype(np.float32)
    config = Config(recover="none", high_precision="fp16")
    result = api.quantize(path, images, config)
    api.write(result, path)
    graph = load(path)
    verdict = judge(graph, engine_of_graph(graph))
    assert verdict.real == dict.fromkeys(verdict.meant, "int8")
    assert len(verdict.meant) == products
    assert result.agreement.judged["y"].sqnr_db > 20  # FP16 that overflowed would be NaN


def test_the_variance_of_large_activations_does_not_overflow_in_fp16(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "large.onnx"
    onnx.save(swin(1), path)  # its LayerNormalization is ReduceMean, Sub, Pow and others
    images = 1000 * rng.standard_normal((8, 3, SIDE, SIDE)).astype(np.float32)
    result = api.quantize(path, images, Config(recover="none", high_precision="fp16"))
    assert result.agreement.judged["y"].sqnr_db > 20
