"""`quantize` as a program calls it: a model and data in any form, options by keyword."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from onnxq.model import graph as graphs
from onnxq.model.model_file import ModelLike
from onnxq.pipeline import quantize as pipeline
from onnxq.pipeline.config import Config
from onnxq.pipeline.keywords import Keywords, composed
from onnxq.pipeline.reading import CalibrationData
from onnxq.plan import Plan
from onnxq.progress import Progress, silent

if TYPE_CHECKING:
    import onnx

    from onnxq.calib.ranges import Ranges
    from onnxq.calib.stats import Stats


@dataclass(frozen=True, repr=False)
class Quantized(pipeline.Quantized):
    """What `quantize` returns: the Q/DQ model, every value on the way to it, and the manifest."""

    @property
    def model(self) -> onnx.ModelProto:
        """The Q/DQ model, with the metadata that `save` writes."""
        return graphs.to_proto(self.graph, self.properties)

    def save(self, path: str | Path) -> Quantized:
        """Write the model to `path` and its manifest to `<path>.manifest.json`, both or neither;
        returns the result, whose manifest says what was written."""
        return pipeline.write(self, path)

    def report(self, path: str | Path) -> None:
        """Write a page of HTML that shows it all."""
        from onnxq.report.html import verbs, write_page

        write_page(verbs.quantized(self, Path(path).stem, ()), Path(path))


def quantize(
    model: ModelLike,
    calib: CalibrationData,
    config: Config | None = None,
    *,
    plan_from: Plan | None = None,
    stats_from: Stats | None = None,
    ranges_from: Ranges | None = None,
    progress: Progress = silent,
    **options: Unpack[Keywords],
) -> Quantized:
    """Quantize a model: prepare, plan, calibrate, read ranges, insert Q/DQ, recover, compare.

    model: a path, or a model in memory, a `ModelProto` or its bytes. calib: samples of what the
    model reads: a path as of `--calib` or several, an array whose first axis is the samples, arrays
    by input name, or an iterable of feeds such as a DataLoader. config: all options in one value.
    options: single ones by the names that they have on the command line, as `method="max"` or
    `skip=["deblocks"]`; they go before those of `config`. plan_from, stats_from, ranges_from: a
    saved plan, saved statistics or ranges of this model, in place of a plan of its own, the
    calibration, and the ranges read off it. progress: called with the stage, how much is done, and
    how much there is.

    Writes nothing: `save` of the result does. Raises OnnxqError for whatever the user can mend.
    """
    made = pipeline.quantize(
        model, calib, composed(config, options), plan_from=plan_from, stats_from=stats_from,
        ranges_from=ranges_from, progress=progress,
    )  # fmt: skip
    return Quantized(**vars(made))
