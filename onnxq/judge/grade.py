"""A verdict on a quantized model: good, doubtful or poor, by the worst part of its outputs.

    part                 good from   poor below
    scores, objectness       15 dB        8 dB
    any other                21 dB        8 dB

Good is to mean that a task loses about a point at most, or that 97 in 100 results stay; poor, that
one in ten or more is lost. Evidence: the tables of docs/results.md and docs/hardening.md.

    from 21 dB   classifiers keep 98 to 100% of top classes, readers 98% of characters, a voice
                 detector 97 to 99% of frames, sentence embeddings all of their ranking
    19 to 21     95.5 to 98% of top classes, 96% of frames
    15 to 17     scores: mAP loses 0 to 1.0 points; classes: top-1 1.0
    12 to 13     scores: 2 to 3 points of 45; 91 to 95% of top classes; embeddings: nothing
    8 to 10      scores: 2 to 5 points; 84 to 94% of top classes; a map of text: IoU 0.79 to 0.85
    5 to 8       scores: 2 to 8 points, 85% of detections; characters: 86%
    below 5      scores: 45 points; 14 to 87% of top classes, of two classes up to 96; a map of
                 text: IoU 0.69 and less

What is good on the whole and poor in a single sample is doubtful; but of scores: where an image
shows nothing, all that is there is noise (YOLO11n: 16.3 dB, its emptiest image 0.7).

Where classes compete at hundreds of places, as in a reader of text or a segmentation, decibels say
too little: of 18,710 classes nearly all are noise, and at 11 dB every character was right. There
the share of places where the same class is on top decides, two standard errors s on the safe side,

    s = sqrt(max(p (1 - p), 1 / n) / n)          for a share p of n places:

p - 2 s of 0.96 or more makes what is not poor good, and p + 2 s below 0.97 what is good doubtful.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

from onnxq.judge.accuracy import Agreements, Headline
from onnxq.judge.heads import OBJECTNESS
from onnxq.judge.parts import SCORES

Grade = Literal["good", "doubtful", "poor"]
LIMITS = {SCORES: (15.0, 8.0), "": (21.0, 8.0)}  # kind of part -> good from, poor below, in dB
ERRORS, SURE, UNLIKE = 2.0, 0.96, 0.97  # of the share of places with the same top class
TOLD = 64  # places: of fewer, what the share says is not worth a word
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
    if worst.places >= TOLD:
        why += f", the top class the same at {_percent(worst)} of {worst.places} places"
    if grade == "doubtful" and _fails_somewhere(worst):
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
    least, most = _shares(worst)
    if not worst.sqnr_db >= poor:
        return "poor"
    if least >= SURE:
        return "good"
    is_good = worst.sqnr_db >= good and most >= UNLIKE and not _fails_somewhere(worst)
    return "good" if is_good else "doubtful"


def _shares(worst: Headline) -> tuple[float, float]:
    """The share of places with the same top class, two standard errors less and more; (0, 1) where
    no classes are compared."""
    n = worst.places
    if not n:
        return 0.0, 1.0
    p = worst.tops / n
    error = ERRORS * math.sqrt(max(p * (1 - p), 1 / n) / n)
    return p - error, p + error


def _percent(worst: Headline) -> str:
    """The share of places with the same top class, rounded down: 100 is all of them."""
    return f"{math.floor(1000 * worst.tops / worst.places) / 10:.1f}%"


def _fails_somewhere(worst: Headline) -> bool:
    """Whether a single sample is poor; of scores it may just show nothing."""
    return not _beside_boxes(worst) and worst.least_db < _limits(worst)[1]


def _beside_boxes(worst: Headline) -> bool:
    """Whether it is what a detector says of its boxes: near 0 but for those that show something."""
    return worst.part.endswith((SCORES, OBJECTNESS))


def _limits(worst: Headline) -> tuple[float, float]:
    return LIMITS[SCORES if _beside_boxes(worst) else ""]


def _figure(worst: Headline) -> str:
    if worst.sqnr_db == math.inf:
        return "no error"
    spread = f" ± {worst.spread_db:.1f} (least {worst.least_db:.1f})"
    return f"{worst.sqnr_db:.1f} dB" + ("" if math.isnan(worst.spread_db) else spread)
