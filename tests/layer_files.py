"""Small layer infos and profiles in the form that TensorRT writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INT8 = "Thirty-two wide channel vectorized row major Int8 format"
FP16 = "Channel major FP16 format where channel % 8 == 0"
FP32 = "Row major linear FP32"


def port(name: str, described: str, shape: tuple[int, ...] = (1, 64, 8, 8)) -> dict[str, Any]:
    return {"Name": name, "Dimensions": list(shape), "Format/Datatype": described}


def layer(
    name: str,
    kind: str = "CaskConvolution",
    reads: tuple[dict[str, Any], ...] = (),
    writes: tuple[dict[str, Any], ...] = (),
    weights: str = "",
    **more: Any,
) -> dict[str, Any]:
    found = {"Name": name, "LayerType": kind, "Inputs": list(reads), "Outputs": list(writes)}
    if weights:
        found |= {"Weights": {"Type": weights, "Count": 36864}, "Kernel": [3, 3], "OutMaps": 64}
    return found | more


def residual_block(skip: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """x -> Q -> Conv_1 + Relu_2 -> Conv_4 + Add_5 + Relu_6 -> Q -> Conv_9, with a skip branch of
    that type: its layers and their times."""
    after = INT8 if skip == INT8 else FP16
    layers = [
        layer("QuantizeLinear_0", "Reformat", (port("x", FP32),), (port("xq", INT8),),
              Origin="QDQ"),
        layer("conv1.weight + QuantizeLinear_7 + Conv_1 + PWN(Relu_2)",
              reads=(port("xq", INT8),), writes=(port("a", INT8),), weights="Int8"),
        layer("conv2.weight + QuantizeLinear_3 + Conv_4 + Add_5 + Relu_6",
              reads=(port("a", INT8), port("s", skip)), writes=(port("b", after),), weights="Int8"),
    ]  # fmt: skip
    if after != INT8:
        layers.append(layer("QuantizeLinear_8", "Reformat", (port("b", FP16),),
                            (port("bq", INT8),), Origin="QDQ"))  # fmt: skip
    read = "b" if after == INT8 else "bq"
    layers.append(layer("conv3.weight + QuantizeLinear_10 + Conv_9", reads=(port(read, INT8),),
                        writes=(port("y", FP32),), weights="Int8"))  # fmt: skip
    times = [{"name": x["Name"], "averageMs": 0.25 * (i + 1)} for i, x in enumerate(layers)]
    return {"Layers": layers, "Bindings": ["x", "y"]}, [{"count": 100}, *times]


def written(folder: Path, name: str, document: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(document), "utf-8")
    return path
