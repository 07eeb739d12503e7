"""The one command to go on with after `quantize`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnxq.escaping import shell_line
from onnxq.judge.grade import Verdict
from onnxq.pipeline.config import Config

TOP = 3  # nodes: few ruin a model


def following(
    model: Path, out: Path, calib: Sequence[str], config: Config, verdict: Verdict | None
) -> str:
    """For a good model what builds it; for a doubtful one a tuning to where it is good; for a poor
    one what tells which nodes do it. Empty where there is nothing to do."""
    if verdict is None:
        return ""
    if verdict.grade == "good":
        builds = config.placement.target == "tensorrt" and not config.placement.attribute_op
        return shell_line(["onnxq", "build", str(out)]) if builds else ""
    data = [word for source in calib for word in ("--calib", source)]
    data += ["--preprocess", config.preprocess] if config.preprocess else []
    if replace(config, recover="auto", preprocess=None) != Config():
        data += ["--config", f"{out}.manifest.json"]
    if verdict.grade == "poor":
        return shell_line(["onnxq", "sensitivity", str(model), *data, "--top", str(TOP)])
    return shell_line(["onnxq", "tune", str(model), *data, "--min-sqnr", f"{verdict.goal_db:g}"])
