"""What a model is fed back: who says it, and what runs the model over its sequences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onnxq.arrays import Sample
from onnxq.calib.data import Dataset
from onnxq.calib.visited import Axes, Remembering, Run
from onnxq.errors import DataError, ModelError
from onnxq.imports import attribute_of, users_code
from onnxq.model import graph as graphs
from onnxq.model.feedback import (
    check_feedback,
    of_mapping,
    parse_feedback,
    remembered,
    remembered_by,
)
from onnxq.pipeline import original
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source
from onnxq.progress import stage
from onnxq.run.over import Loaded, loaded
from onnxq.run.runtime import Model, Runtime, release_free_memory


def feedback_of(source: Source, calib: object, config: Config) -> Mapping[str, str]:
    """Output -> the input that it becomes: as the configuration says, else the data function, else
    the model's metadata. Raises PlanError for what the model has not or does not fit."""
    if config.feedback:
        found = parse_feedback(config.feedback)
    else:
        found = _by_function(calib) or remembered(source.file.metadata)
    check_feedback(source.graph, found)
    return found


def as_remembered(config: Config, *models: str | Path) -> Config:
    """The configuration with what the first of the models that says so is fed back, unless it says
    that itself."""
    if config.feedback:
        return config
    for model in models:
        if found := remembered_by(Path(model)):
            return replace(config, feedback=tuple(f"{out}={name}" for out, name in found.items()))
    return config


def _by_function(calib: object) -> dict[str, str]:
    """What a data function has as its attribute `feedback`, a mapping of outputs to inputs."""
    given = calib if isinstance(calib, list | tuple) else [calib]
    for text in (t for t in given if isinstance(t, str) and re.fullmatch(r"[\w.]+:\w+", t)):
        if Path(text).exists():
            continue
        with users_code(f"'{text}' cannot be imported", DataError):
            said = getattr(attribute_of(text), "feedback", None)
        if said is not None:
            return of_mapping(said, f"'{text}'")
    return {}


def remembering(source: Source, feedback: Mapping[str, str], runtime: Runtime) -> Remembering:
    """How the float model of a source runs over sequences: the file, or its prepared graph where
    ONNX Runtime cannot run that."""

    def opens(sample: Sample) -> Run:
        def tried(model: Model) -> Loaded:
            run = loaded(model, runtime, threads=1, outputs=tuple(feedback))
            run(sample)
            return run

        try:
            return tried(original.file_of(source))
        except ModelError:
            return tried(graphs.to_proto(source.graph))

    return Remembering(feedback, _axes(source), opens, runtime)


def _axes(source: Source) -> Axes:
    return {t.name: None if t.shape is None else list(t.shape) for t in source.graph.inputs}


def visit(dataset: Dataset, workers: int) -> None:
    """Run the float model over the sequences as far as the samples go, so that all have states."""
    assert dataset.visited is not None
    with stage("states"):
        dataset.visited.visit((i for _, i in dataset.rows), workers)
    release_free_memory()


def sharded(dataset: Dataset, part: tuple[int, int] | None) -> Dataset:
    """Part (K, N) of the samples: each Nth from the Kth on; of sequences, which are not split, each
    Nth sequence. Raises DataError where there are fewer than N."""
    if part is None:
        return dataset
    k, n = part
    units: Sequence[Sequence[int]] = dataset.sequences()
    if k > len(units) and dataset.feedback:
        raise DataError(f"--shard {k}/{n} would split a sequence: there are {len(units)}, "
                        "and a shard holds whole ones; use fewer shards")  # fmt: skip
    if k > len(units):
        raise DataError(f"--shard {k}/{n}: there are {len(units)} samples; use fewer shards")
    return dataset.select([i for unit in units[k - 1 :: n] for i in unit])
