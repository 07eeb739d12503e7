"""Pipelines of several models: the data of one are what another gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxq.arrays import Sample
from onnxq.errors import PlanError
from onnxq.model.feedback import fits, form
from onnxq.pipeline import original
from onnxq.pipeline.config import Config
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.source import open_model
from onnxq.pipeline.steps import data, runtime_of
from onnxq.progress import Progress, silent, stage, steps, told

if TYPE_CHECKING:
    from onnxq.calib.data import Dataset
    from onnxq.model.graph import Graph
    from onnxq.model.model_file import ModelLike
    from onnxq.run.runtime import Model


@dataclass(frozen=True)
class Names:
    """What is written under which name: of the outputs of a model, and of its inputs, handed on."""

    outputs: Mapping[str, str]
    inputs: Mapping[str, str]

    def of(self, outputs: Sample, sample: Sample) -> dict[str, np.ndarray]:
        """What the next model takes."""
        found = {name: outputs[out] for name, out in self.outputs.items()}
        return found | {name: sample[one] for name, one in self.inputs.items()}


@told
def data_through(
    model: ModelLike,
    calib: CalibrationData,
    out: str | Path,
    config: Config | None = None,
    *,
    following: ModelLike | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> int:
    """Run a model over data and write what it gives as data of the next model; how many samples.

    out: a folder, with a `.npz` a sample, or a `.npz` or `.npy` file. following: the next model,
    each of whose inputs takes the output that `mapping` (output -> input) names, the one of its
    name, an input of the first model of its name, or the only output that fits. Without it all
    outputs are written, or those of `mapping`. Samples are run and written one after the other; of
    sequences, `reset` says where they begin. Raises PlanError for inputs that nothing or too much
    fits, DataError for data that do not.
    """
    from onnxq.calib.writing import check_form, write_samples

    config, source = config or Config(), open_model(model)
    check_form(Path(out))
    names = _names(source.graph, following and open_model(following).graph, mapping or {})
    dataset = data(source, calib, config)
    with stage("run"):
        return write_samples(_given(original.reference(source), dataset, names, config), Path(out))


def _given(
    model: Model, dataset: Dataset, names: Names, config: Config
) -> Iterator[dict[str, np.ndarray]]:
    """What the model gives for each sample, under the names that the next one has."""
    from onnxq.calib.data_sources import RESET
    from onnxq.calib.sequences import begun
    from onnxq.run.over import stream

    starts = begun(dataset)
    found = stream(model, dataset, runtime=runtime_of(config))
    for i, outputs in enumerate(steps("samples", found, len(dataset))):
        sample = dataset.sample(i) if names.inputs else {}
        mark = {RESET: np.array([i in starts], np.int8)} if len(starts) > 1 else {}
        yield names.of(outputs, sample) | mark


def parse_map(texts: Sequence[str]) -> dict[str, str]:
    """Output -> the input that takes it, as OUT=IN texts say; raises PlanError."""
    found: dict[str, str] = {}
    for text in texts:
        out, equals, name = text.partition("=")
        if not (out and equals and name):
            raise PlanError(f"--map '{text}' is not OUT=IN, such as features=input")
        if out in found or name in found.values():
            raise PlanError(f"--map '{text}': that name is mapped already; give each once")
        found[out] = name
    return found


def _names(graph: Graph, following: Graph | None, mapping: Mapping[str, str]) -> Names:
    """What goes by which name; raises PlanError where that is not known."""
    outputs, inputs = ({t.name: t for t in ends} for ends in (graph.outputs, graph.inputs))
    taken = {name: out for out, name in mapping.items()}
    for out in mapping:
        if out not in outputs:
            raise PlanError(f"--map {out}={mapping[out]}: the model has no output '{out}'; it has "
                            f"{_listed(outputs)}")  # fmt: skip
    if following is None:
        return Names(taken or {name: name for name in outputs}, {})
    wanted = {t.name: t for t in following.inputs}
    for name in taken:
        if name not in wanted:
            raise PlanError(f"--map {taken[name]}={name}: the next model has no input '{name}'; it "
                            f"has {_listed(wanted)}")  # fmt: skip
    handed = {}
    for name in wanted:
        if name not in taken and name in outputs and name not in mapping:
            taken[name] = name
        elif name not in taken and name in inputs:
            handed[name] = name
    for name, one in (*taken.items(), *handed.items()):
        tensor = outputs[one] if name in taken else inputs[one]
        if not fits(tensor, wanted[name]):
            raise PlanError(f"'{one}' is {form(tensor)}, and input '{name}' of the next model "
                            f"takes {form(wanted[name])}")  # fmt: skip
    for name, tensor in wanted.items():
        if name not in taken and name not in handed:
            free = [o for o, t in outputs.items() if o not in taken.values() and fits(t, tensor)]
            if len(free) != 1:
                found = f"{_listed(free)} fit" if free else "no other output fits"
                raise PlanError(
                    f"input '{name}' of the next model is {form(tensor)}, and {found}; say which "
                    f"with --map OUT={name}; there are {_listed(outputs)}"
                )
            taken[name] = free[0]
    return Names(taken, handed)


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names)
