"""A verdict on a quantized model: good, doubtful or poor, by the worst part of its outputs.

    part                 good from   poor below
    scores beside boxes      15 dB        10 dB
    any other                20 dB        12 dB

Evidence. Scores: at 15 to 17 dB YOLO11n loses 0.2 to 0.4 points of mAP, at 11 YOLOv8n kept 42 of
56 detections, at 7 to 8 YOLO11n is ruined. Others: at 19 to 29 dB classifiers lose nothing
(EfficientNet, ResNet-20), at 14.7 MobileNet loses 1.7 points and at 20.8 none; at 10 a layout
detector has an F1 of 0.67, at 17 of 0.97; at 5 to 7 dB models fail. What is good on the whole and
poor in a single sample is doubtful; but of scores: where an image shows nothing, all that is there
is noise (YOLO11n: 16.3 dB, its emptiest image 0.7).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

from onnxq.judge.accuracy import Agreements, Headline
from onnxq.judge.parts import SCORES

Grade = Literal["good", "doubtful", "poor"]
LIMITS = {SCORES: (15.0, 10.0), "": (20.0, 12.0)}  # kind of part -> good from, poor below, in dB
MORE = 3.0  # dB to ask for where single samples are poor
LITTLE = 0.5  # share of the weights: with fewer in 8 bits, FP16 saves about as much
FP16 = "FP16 alone may serve"


@dataclass(frozen=True)
class Verdict:
    """grade: of the model. why: the worst part, and what else there is to say. next: the command to
    go on with; empty where there is none, or nobody knows the paths. goal_db: from where that part
    is good; for one that is, but for single samples, a few dB more."""

    grade: Grade
    why: str
    next: str = ""
    goal_db: float = LIMITS[""][0]

    def __str__(self) -> str:
        return f"{self.grade}: {self.why}" + (f"; next: {self.next}" if self.next else "")

    def as_dict(self) -> dict[str, str | float]:
        """For a report."""
        return asdict(self)


def judged(found: Agreements, share: float, can_half: bool) -> Verdict | None:
    """The verdict; None where no float output was compared. share: of the weights that are
    quantized. can_half: whether FP16 would be another way."""
    worst = found.headline
    if worst is None:
        return None
    grade = grade_of(worst)
    why = f"{worst.part} has {_figure(worst)}"
    if grade != "poor" and _fails_somewhere(worst):
        why += ", and single samples are poor"
    if can_half and grade == "poor":
        why += f"; {FP16}"
    elif can_half and share < LITTLE:
        why += f"; {100 * share:.0f}% of the weights are quantized: {FP16}"
    goal = _limits(worst)[0]
    if grade == "doubtful" and worst.sqnr_db >= goal:
        goal = float(math.ceil(worst.sqnr_db + MORE))
    return Verdict(grade, why, goal_db=goal)


def grade_of(worst: Headline) -> Grade:
    """By a headline; what is not a number is poor."""
    good, poor = _limits(worst)
    if not worst.sqnr_db >= poor:
        return "poor"
    return "good" if worst.sqnr_db >= good and not _fails_somewhere(worst) else "doubtful"


def _fails_somewhere(worst: Headline) -> bool:
    """Whether a single sample is poor; of scores it may just show nothing."""
    return not worst.part.endswith(SCORES) and worst.least_db < _limits(worst)[1]


def _limits(worst: Headline) -> tuple[float, float]:
    return LIMITS[SCORES if worst.part.endswith(SCORES) else ""]


def _figure(worst: Headline) -> str:
    if worst.sqnr_db == math.inf:
        return "no error"
    spread = f" ± {worst.spread_db:.1f} (least {worst.least_db:.1f})"
    return f"{worst.sqnr_db:.1f} dB" + ("" if math.isnan(worst.spread_db) else spread)
