"""The Polygraphy command lines that repeat the comparison a quantizing run made.

Polygraphy compares sample by sample; a mean absolute error fails beyond

    min(2 x the worst sample's error, 0.3 x the root mean square of the float output)

The first term leaves room for another backend, the second (an SQNR of about 10 dB) fails a model
that was ruined from the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import onnx

from onnxq.escaping import shell_line
from onnxq.judge.accuracy import Agreement, Agreements
from onnxq.model.model_file import mentions
from onnxq.pipeline.config import Config
from onnxq.run.runtime import EXTENSIONS

MARGIN, RUINED = 2.0, 0.3
EQUAL = 1e-4  # share of the root mean square: outputs that were equal may differ elsewhere


def lines(
    model: Path, out: Path, calib: Sequence[str], config: Config, found: Agreements
) -> list[str]:
    """Three lines for a shell: write the samples, run the float model, compare the quantized.

    Polygraphy runs models in plain sessions: there are none for those that need more, ops of a
    library or of Python, or that ONNX Runtime cannot run, such as BF16. Nor where an output cannot
    be compared by how far apart all its values are, as Polygraphy does.
    """
    more = config.ort_extension or config.ort_library or config.placement.attribute_op
    if not any(a.count for a in found.values()) or more or config.high_precision == "bf16":
        return []
    if _has_extensions(model):
        return []
    if found.left_out or any(a.alike + a.apart for a in found.values()):
        return []
    data = ["onnxq", "data", "--model", str(model)]
    for source in calib:
        data += ["--calib", source]
    options = {"--preprocess": config.preprocess, "--samples": config.samples}
    for option, value in (*options.items(), ("--seed", config.seed)):
        data += [] if value is None else [option, str(value)]
    data += ["--allow-nonfinite"] if config.allow_nonfinite else []
    data += ["--check-samples", str(found.samples), "-o", "inputs.json"]
    limits = [f"{name}:{tolerance(a):.3g}" for name, a in found.items()]
    run = ["polygraphy", "run"]
    onnxrt = ["--onnxrt", "--load-inputs", "inputs.json"]
    compare = ["--load-outputs", "float.json", "--compare-func", "simple"]
    compare += ["--check-error-stat", "mean", "--rtol", "0", "--atol", *limits]
    return [
        shell_line(data),
        shell_line([*run, str(model), *onnxrt, "--save-outputs", "float.json"]),
        shell_line([*run, str(out), *onnxrt, *compare]),
    ]


def _has_extensions(model: Path) -> bool:
    """Whether a model imports ops of onnxruntime-extensions."""
    if not mentions(model, *EXTENSIONS):
        return False
    opened = onnx.load(model, load_external_data=False)
    return any(opset.domain in EXTENSIONS for opset in opened.opset_import)


def tolerance(a: Agreement) -> float:
    """The largest mean absolute error that passes."""
    if not a.count or not math.isfinite(a.ref_power):
        return 0.0
    rms = math.sqrt(a.ref_power / a.count)
    return min(max(MARGIN * a.mean_abs_worst, EQUAL * rms), RUINED * rms)
