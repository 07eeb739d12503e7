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
    """For a good model what builds it; for a doubtful one all recoveries, or a search where they
    ran; for a poor one what tells which nodes do it. Empty where there is nothing to do."""
    if verdict is None:
        return ""
    if verdict.grade == "good":
        builds = config.placement.target == "tensorrt" and not config.placement.attribute_op
        return shell_line(["onnxq", "build", str(out)]) if builds else ""
    data = [word for source in calib for word in ("--calib", source)]
    data += ["--preprocess", config.preprocess] if config.preprocess else []
    same = (
        config
        if verdict.grade == "doubtful" and config.recover == "all"
        else replace(config, recover="auto")
    )
    if replace(same, preprocess=None) != Config():
        data += ["--config", f"{out}.manifest.json"]
    if verdict.grade == "poor":
        return shell_line(["onnxq", "sensitivity", str(model), *data, "--top", str(TOP)])
    if config.recover != "all":
        return shell_line(
            ["onnxq", "quantize", str(model), *data, "--recover", "all", "-o", str(out)]
        )
    return shell_line(["onnxq", "search", str(model), *data, "--min-sqnr", f"{verdict.goal_db:g}"])
