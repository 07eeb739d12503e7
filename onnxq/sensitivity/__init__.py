"""What quantizing each node costs."""

from onnxq.sensitivity.options import Options, metric_of
from onnxq.sensitivity.rank import Source, sensitivity
from onnxq.sensitivity.ranking import Ranking, Row, Score

__all__ = ["Options", "Ranking", "Row", "Score", "Source", "metric_of", "sensitivity"]
