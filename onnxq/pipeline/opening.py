"""How a worker opens what this process has open: by path, and checked to be the same.

A prepared graph does not travel. The worker prepares the model file again, which is deterministic,
and compares a digest of the graph; samples are read from the same paths, and a few compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from onnx_graphsurgeon.ir.tensor import LazyValues

from onnxq.arrays import Array
from onnxq.calib.data import Dataset, InputInfo
from onnxq.calib.data_sources import Source as Records
from onnxq.calib.opening import open_each
from onnxq.calib.preprocess import Preprocess
from onnxq.calib.stats import sample_digest
from onnxq.calib.visited import Step, Visited
from onnxq.cluster import kept
from onnxq.errors import DataError, ModelError
from onnxq.model import graph as graphs
from onnxq.model import mapped
from onnxq.model.graph import Graph, Tensor
from onnxq.passes.weightless import weightless
from onnxq.pipeline import source as sources
from onnxq.pipeline.config import Config
from onnxq.pipeline.feeding import remembering
from onnxq.pipeline.source import Source
from onnxq.plan import Plan
from onnxq.run.runtime import Runtime

T = TypeVar("T", str, str | None)

SHARE = "put it in a folder that all workers have under the same path"


@dataclass(frozen=True)
class ModelSpec:
    """A model file and how it was prepared (config None: not at all), with the outputs that the
    graph has now. digest: of that graph."""

    path: Path
    sha256: str
    config: Config | None
    plan: Plan | None
    outputs: tuple[str, ...]
    digest: str

    @staticmethod
    def of(source: Source) -> ModelSpec:
        """How to open `source`; raises ModelError where its graph is not that of its file."""
        told = source.preparation
        return ModelSpec(
            source.path.resolve(),
            source.sha256,
            told.config if told else None,
            told.plan if told else None,
            tuple(t.name for t in source.graph.outputs),
            _digest(source.graph),
        )

    def open(self) -> Source:
        """The source; raises ModelError where it cannot be read here or comes out differently."""
        if not self.path.is_file():
            raise ModelError(f"the model '{self.path}' cannot be read there; {SHARE}")
        if self.config is None:
            source = sources.open_model(self.path)
        else:
            source = sources.prepare(self.path, self.config, self.plan)
        if source.sha256 != self.sha256:
            raise ModelError(
                f"'{self.path}' is another model there ({source.sha256[:12]}) than here "
                f"({self.sha256[:12]}); give all workers the same file"
            )
        if tuple(t.name for t in source.graph.outputs) != self.outputs:
            source = replace(source, graph=_with_outputs(source.graph, self.outputs))
        if _digest(source.graph) != self.digest:
            raise ModelError(
                f"'{self.path}' differs there after 'prepare'; give workers the same versions of "
                "onnxq, onnx and NumPy, and a graph that was not changed after 'prepare'"
            )
        return source


@dataclass(frozen=True)
class Remembers:
    """How the model is fed back, in which runtime; (number of the text, record, which sequence of
    it begins there) of every sample of all sequences."""

    feedback: Mapping[str, str]
    runtime: Runtime
    steps: tuple[tuple[int, int, int | None], ...]

    @staticmethod
    def of(visited: Visited, number: Mapping[int, int]) -> Remembers:
        """How to open `visited`, whose sources have these numbers."""
        runtime, library = visited.model.runtime, visited.model.runtime.ort_library
        runtime = replace(
            runtime,
            ort_library=None if library is None else library.resolve(),
            ort_extension=_absolute(runtime.ort_extension),
        )
        steps = tuple((number[id(s.source)], s.record, s.begins) for s in visited.steps)
        return Remembers(visited.model.feedback, runtime, steps)

    def open(
        self, found: Sequence[Records], inputs: Mapping[str, InputInfo], source: Source
    ) -> Visited:
        """The samples, to be visited as they are asked for."""
        if any(i >= len(found[k]) for k, i, _ in self.steps):
            raise DataError(f"the data hold fewer samples there; {SHARE}")
        steps = [Step(found[k], i, begins) for k, i, begins in self.steps]
        return Visited(steps, inputs, remembering(source, self.feedback, self.runtime))


@dataclass(frozen=True)
class DataSpec:
    """Samples by where they come from.

    texts: what was opened; absolute where it is a path. rows: (number of the text, record) of every
    sample's records. probes: sample -> its digest, of a few that begin sequences,
    where there are such. preprocess: how images become
    inputs. remembers: of samples of sequences, which are the records of `rows`.
    """

    texts: tuple[str, ...]
    inputs: Mapping[str, InputInfo]
    limit: int | None
    seed: int
    rows: tuple[tuple[int, int], ...]
    batch: int
    probes: Mapping[int, str]
    preprocess: Preprocess | None = None
    remembers: Remembers | None = None

    @staticmethod
    def of(dataset: Dataset) -> DataSpec:
        """How to open `dataset`; raises DataError for one that did not come from `open_data`."""
        opened = dataset.opened
        if opened is None:
            raise DataError(
                "workers cannot open these samples; an executor needs a dataset from onnxq.api.data"
            )
        texts = [str(each) for each in opened.given if isinstance(each, str | Path)]
        if len(texts) < len(opened.given):
            raise DataError("workers cannot open data in memory; write it to .npy or .npz")
        number = {id(source): k for k, source in enumerate(opened.sources)}
        n, visited = len(dataset), dataset.visited
        remembers = None if visited is None else Remembers.of(visited, number)
        number |= {id(visited): 0}
        known = range(n) if visited is None else [*filter(dataset.begins, range(n))]
        few = {known[k] for k in (0, len(known) // 2, -1)} if known else set()
        probes = {i: sample_digest(dataset.sample(i)) for i in few}
        return DataSpec(
            tuple(_absolute(text) for text in texts),
            dataset.inputs,
            opened.limit,
            opened.seed,
            tuple((number[id(source)], i) for source, i in dataset.rows),
            dataset.batch,
            probes,
            opened.preprocess,
            remembers,
        )

    def open(self, source: Source) -> Dataset:
        """The samples, for a model; raises DataError where they cannot be read here, or are
        others."""
        for text in self.texts:
            if Path(text).is_absolute() and not Path(text).exists():
                raise DataError(f"the data '{text}' cannot be read there; {SHARE}")
        fed = [] if self.remembers is None else list(self.remembers.feedback.values())
        found = open_each(self.texts, self.inputs, self.limit, self.seed, self.preprocess, fed)
        if self.remembers is not None:
            found = [self.remembers.open(found, self.inputs, source)]
        if any(i >= len(found[k]) for k, i in self.rows):
            raise DataError(f"{self._named()} holds fewer samples there; {SHARE}")
        dataset = Dataset(self.inputs, [(found[k], i) for k, i in self.rows], self.batch)
        if any(sample_digest(dataset.sample(i)) != said for i, said in self.probes.items()):
            raise DataError(f"{self._named()} holds other samples there than here; give all "
                            "workers the same data")  # fmt: skip
        return dataset

    def _named(self) -> str:
        return ", ".join(f"'{text}'" for text in self.texts)


def opened(model: ModelSpec, data: DataSpec) -> tuple[Source, Dataset]:
    """Model and data, opened once a process."""
    source = kept.shared(f"model {model.digest} {model.path}", model.open)
    said = hashlib.sha256(f"{data!r} {model.digest}".encode()).hexdigest()
    return source, kept.shared(f"data {said}", lambda: data.open(source))


def placed(config: Config) -> Config:
    """The configuration with the files that it names as absolute paths."""
    return replace(
        config,
        ort_library=_absolute(config.ort_library),
        ort_extension=_absolute(config.ort_extension),
        cache=_absolute(config.cache),
    )


def _absolute(text: T) -> T | str:
    """A path that exists as an absolute one; whatever else, as it is."""
    if text is None or text == "random" or not Path(text).exists():
        return text
    return str(Path(text).resolve())


def _with_outputs(graph: Graph, names: tuple[str, ...]) -> Graph:
    copy = graph.copy()
    tensors = copy.tensors()
    if lost := [name for name in names if name not in tensors]:
        raise ModelError(f"the prepared model has no tensor '{lost[0]}' there; install the same "
                         "onnxq on all workers")  # fmt: skip
    copy.outputs = [tensors[name] for name in names]
    return copy


def _digest(graph: Graph) -> str:
    """SHA-256 of a graph: its nodes in order, and its constants by name."""
    model, large = weightless(graph)
    sha = hashlib.sha256()
    for tensor in sorted(large.values(), key=lambda t: t.name):
        values = np.ascontiguousarray(_values(tensor))
        sha.update(f"{tensor.name}\0{values.dtype}\0{values.shape}\0".encode())
        sha.update(values.reshape(-1).view(np.uint8).data)
    mapped.release()
    for field in ("initializer", "input", "value_info"):
        items = sorted(getattr(model.graph, field), key=lambda item: item.name)
        for item in items:
            sha.update(item.SerializeToString(deterministic=True))
        model.graph.ClearField(field)
    sha.update(model.SerializeToString(deterministic=True))
    return sha.hexdigest()


def _values(tensor: Tensor) -> Array:
    """The values of a constant, which are not kept in memory for it."""
    lazy = tensor._values
    if not isinstance(lazy, LazyValues):
        return np.asarray(lazy)
    with graphs.quietly():
        return np.asarray(lazy.load())
