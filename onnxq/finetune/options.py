"""What `onnxq finetune` may be told beside what quantizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnxq.errors import PlanError
from onnxq.option import option, settle


@dataclass(frozen=True)
class FinetuneOptions:
    """How much is learned, and where.

    steps: of every block. epochs: how often each block sees the samples, in place of steps. Without
    either there are as many steps as some minutes on two cores allow, by the products that the
    model takes; more samples then are seen less often each.
    """

    steps: int | None = option(
        None, "Learning steps for each block. Default: by the size of the model, some minutes on "
        "two cores.", "Learning", "N", least=1,
    )  # fmt: skip
    epochs: int | None = option(
        None, "How often each block sees the samples, instead of --steps.", "Learning", "N",
        least=1,
    )  # fmt: skip
    batch: int = option(8, "Samples in a step, at most.", "Learning", "N", least=1)
    polish: bool = option(
        True, "At the end, learn biases and scales end to end, if the judges agree.",
        "Learning", flag="--polish/--no-polish",
    )  # fmt: skip
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Where torch learns; auto takes CUDA if it is there.", "Learning"
    )

    def __post_init__(self) -> None:
        settle(self)
        if self.steps is not None and self.epochs is not None:
            raise PlanError("--steps and --epochs say the same in two ways; give one")
        for name in ("steps", "epochs", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PlanError(f"--{name} {value}: at least 1")
