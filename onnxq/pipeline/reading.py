"""The step that reads calibration data and looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from onnx import TensorProto

from onnxq.arrays import Array
from onnxq.calib.data import Dataset, InputInfo, open_data
from onnxq.calib.data_check import check_finite, drop_nonfinite
from onnxq.calib.masks import mask_inputs
from onnxq.calib.preprocess import preprocess_of
from onnxq.calib.sequences import open_sequences
from onnxq.errors import DataError
from onnxq.model.graph import Tensor
from onnxq.pipeline.config import Config
from onnxq.pipeline.feeding import feedback_of, remembering, sharded, visit
from onnxq.pipeline.runtimes import runtime_of
from onnxq.pipeline.source import Source
from onnxq.progress import stage

# A text as of --calib or a path, several of them, an array whose first axis is the samples, arrays
# by input name, or an iterable of feeds: mappings, arrays, or sequences of arrays.
CalibrationData: TypeAlias = str | Path | Array | Mapping[str, Array] | Iterable[object] | Dataset


@stage("read data")
def data(
    source: Source,
    calib: CalibrationData,
    config: Config | None = None,
    part: tuple[int, int] | None = None,
) -> Dataset:
    """Calibration data for a model, in any form of `CalibrationData`; a dataset is taken as it is.

    Of a model that is fed back its outputs they are samples of sequences, complete with the states
    that the float model comes to. part: (K, N) for each Nth sample from the Kth on, or sequence.
    Raises DataError for data that does not fit the model, PlanError for feedback that does not.
    """
    config = config or Config()
    if isinstance(calib, Dataset):
        return sharded(calib, part)
    feedback = feedback_of(source, calib, config)
    dataset = _opened(source, calib, config, feedback)
    if feedback:
        dataset = sharded(dataset, part)
        visit(dataset, config.workers)
    masks = mask_inputs(source.graph)
    if config.allow_nonfinite:
        dataset = drop_nonfinite(dataset, masks)
    else:
        check_finite(dataset, masks)
    return dataset if feedback else sharded(dataset, part)


def _opened(
    source: Source, calib: CalibrationData, config: Config, feedback: Mapping[str, str]
) -> Dataset:
    """The samples that the configuration chooses; nothing is run yet."""
    inputs = {t.name: _input_info(t) for t in source.graph.inputs}
    steps = preprocess_of(config.preprocess) if config.preprocess else None
    limit, seed = config.samples, config.seed or 0
    if feedback:
        model = remembering(source, feedback, runtime_of(config))
        dataset = open_sequences(calib, inputs, model, limit=limit, seed=seed, preprocess=steps)
    else:
        dataset = open_data(calib, inputs, limit=limit, seed=seed, preprocess=steps)
    return dataset if limit is None else dataset.beginnings(limit, config.seed)


def _input_info(tensor: Tensor) -> InputInfo:
    dtype = tensor.dtype
    if isinstance(dtype, int) or np.dtype(dtype).kind not in "fiub":  # an int: no type of NumPy
        kind = TensorProto.DataType.Name(dtype) if isinstance(dtype, int) else np.dtype(dtype)
        raise DataError(
            f"input '{tensor.name}' is {kind}, which calibration data cannot be; export the model "
            "with inputs of numbers that NumPy has"
        )
    if tensor.shape is None:
        return InputInfo(None, np.dtype(dtype))
    axes = tuple(d if isinstance(d, int) and d > 0 else None for d in tensor.shape)
    return InputInfo(axes, np.dtype(dtype))
