"""The voxel encoder with what stands between it and the backbone, as one model: pillars to canvas.

A deployment scatters in a kernel of its own. As ONNX it is one ScatterND, by which `onnxq data
--through` makes the backbone's data out of frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import compose, numpy_helper, parser


def with_scatter(encoder: Path, out: Path, rows: int, columns: int) -> None:
    """Write the encoder with one more input, `coords` int64 [pillars, 2], the row and the column of
    each pillar; its output `canvas` is [1, channels, rows, columns], zero where no pillar is."""
    model = onnx.load(encoder)
    (features,) = model.graph.output
    channels = features.type.tensor_type.shape.dim[-1].dim_value
    opset = next(o.version for o in model.opset_import if not o.domain)
    scatter = parser.parse_model(f"""<ir_version: {model.ir_version}, opset_import: ["": {opset}]>
        scatter (float[P, {channels}] values, int64[P, 2] coords)
        => (float[1, {channels}, {rows}, {columns}] canvas)
        <int64[2] flat = {{-1, {channels}}}, int64[1] first = {{0}}> {{
            pillars = Reshape (values, flat)
            cells = ScatterND (empty, coords, pillars)
            planes = Transpose <perm = [2, 0, 1]> (cells)
            canvas = Unsqueeze (planes, first)
        }}""")
    empty = np.zeros((rows, columns, channels), np.float32)
    scatter.graph.initializer.append(numpy_helper.from_array(empty, "empty"))
    onnx.save(compose.merge_models(model, scatter, io_map=[(features.name, "values")]), out)
