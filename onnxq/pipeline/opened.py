"""A model that is opened to be quantized, in one way or in several, and what the ways share.

Statistics are kept by the graph that they are of, a graph that recoveries reshaped by what decides
how: no way runs again what another ran.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from onnxq.calib.data import Dataset
from onnxq.calib.holdout import affordable, held_out
from onnxq.calib.observed import observed
from onnxq.calib.stats import Stats
from onnxq.pipeline import original
from onnxq.pipeline.comparing import FloatSide
from onnxq.pipeline.config import Config
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.recoveries import reshape
from onnxq.pipeline.source import Source
from onnxq.pipeline.steps import calibrate, data, insert_options, runtime_of
from onnxq.plan import Plan
from onnxq.recover import pipeline
from onnxq.recover.choice import chosen
from onnxq.recover.draft import Outcome

Reshaped = tuple[Source, list[Outcome]]
KEPT = 4  # graphs, with their statistics: the first, and the last ones
T = TypeVar("T")


@dataclass
class Opened:
    """The prepared model and its samples.

    dataset: all that were given. rest: those that ranges and recoveries are made of. check: those
    that are compared on. apart: whether `check` took no part in `rest`. side: the file over
    `check`. keeps: whether statistics and reshaped graphs are kept for the next way; folder: where
    statistics are, besides.
    """

    source: Source
    dataset: Dataset
    rest: Dataset
    check: Dataset
    apart: bool
    side: FloatSide
    keeps: bool = False
    folder: Path | None = None
    _stats: dict[str, Stats] = field(default_factory=dict, repr=False)
    _reshaped: dict[str, Reshaped] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(source: Source, calib: CalibrationData, config: Config) -> Opened:
        """A model with its data, of which some is held out to compare on; raises ModelError where
        the prepared graph does not compute what the file does."""
        dataset = data(source, calib, config)
        original.hold(source, dataset, runtime_of(config))
        count = config.check_samples
        rest, check = held_out(
            dataset, affordable(source.graph, dataset) if count is None else count
        )
        apart = len(rest) + len(check) <= len(dataset)
        return Opened(source, dataset, rest, check, apart, FloatSide(source, check))

    def prepared(self, source: Source) -> Opened:
        """The same model prepared in another way, which shares the samples and the float side."""
        return replace(self, source=source, _stats={}, _reshaped={})

    def reshape(self, plan: Plan, config: Config, stats: Stats | None = None) -> Reshaped:
        """`recoveries.reshape` of the source, run once for each way that comes out differently."""
        key = self._way(plan, config) if self.keeps else ""
        if key in self._reshaped:
            return self._reshaped[key]
        found = reshape(self.source, plan, self.rest, config, stats)
        if self.keeps:
            _keep(self._reshaped, key, found)
        return found

    def _way(self, plan: Plan, config: Config) -> str:
        """A digest of what decides how a graph is reshaped."""
        names = [r.name for r in pipeline.asked(chosen(config.recover, plan), reshaping=True)]
        written = insert_options(config)
        whole = replace(plan, chosen_on="").to_yaml() if names else ""
        said = [whole, names, config.method, written.weights_as,
                written.scale_dtype, config.weight_method]  # fmt: skip
        return hashlib.sha256(repr(said).encode()).hexdigest()

    def count(self, source: Source, plan: Plan, config: Config) -> Stats:
        """Statistics of a source's tensors; those that are kept are not counted again."""
        if not self.keeps:
            return calibrate(source, plan, self.rest, config)
        known = self._stats.get(source.sha256)
        names = observed(source.graph, plan)
        if known is None or not known.histograms.keys() >= {*names}:
            if self.folder is not None and config.cache is None:
                config = replace(config, cache=str(self.folder))
            more = calibrate(source, plan, self.rest, config)
            seen = {} if known is None else known.histograms
            known = replace(more, histograms={**more.histograms, **seen})
            _keep(self._stats, source.sha256, known)
        return replace(known, histograms={name: known[name] for name in names})


def _keep(kept: dict[str, T], key: str, value: T) -> None:
    """Keep a value beside the first one and the last ones."""
    while key not in kept and len(kept) >= KEPT:
        del kept[list(kept)[1]]
    kept[key] = value
