"""What to do about a quantized model that is far from the float one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from onnxq.escaping import shell_line
from onnxq.judge.accuracy import Agreements
from onnxq.pipeline.config import Config

POOR = 10.0  # dB: the error is a tenth of the signal
TOP = 3  # nodes: few ruin a model


def poor(
    model: Path, out: Path, calib: Sequence[str], config: Config, found: Agreements
) -> Iterator[str]:
    """A note if the worst part of the outputs is below `POOR` dB or has no figure, with the command
    that tells which nodes do it; none for a good model."""
    worst = found.headline
    if worst is None or worst.sqnr_db >= POOR:
        return
    command = ["onnxq", "sensitivity", str(model)]
    for source in calib:
        command += ["--calib", source]
    command += ["--preprocess", config.preprocess] if config.preprocess else []
    if replace(config, recover="auto", preprocess=None) != Config():
        command += ["--config", f"{out}.manifest.json"]
    hint = "" if config.recover == "all" else "; or try --recover all"
    yield (f"output '{worst.part}' has {worst.sqnr_db:.1f} dB, which is poor; find the nodes "
           f"that do it: {shell_line([*command, '--top', str(TOP)])}{hint}")  # fmt: skip
