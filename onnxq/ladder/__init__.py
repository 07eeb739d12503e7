"""From a goal to the cheapest way of quantizing that meets it: a ladder of ways, climbed."""

from onnxq.ladder.climbing import Climb, Row, climb
from onnxq.ladder.goal import Goal
from onnxq.ladder.result import Rung, Tuned
from onnxq.ladder.rows import LADDER

__all__ = ["LADDER", "Climb", "Goal", "Row", "Rung", "Tuned", "climb"]
