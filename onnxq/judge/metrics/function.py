"""A metric of the user's: `module:function`, called with a model's outputs, one dict a sample.

    def mean_average_precision(outputs: Iterable[dict[str, ndarray]]) -> float | dict[str, float]

The outputs come one by one as they are computed and are in the order of the samples. Of a mapping
the first entry is the score; one named `stderr` is its standard error. The fixtures' `score`
functions are examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import PlanError
from onnxq.imports import attribute_of, users_code

Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class FunctionMetric:
    """A function of all outputs. Its sums are of a single part: (score, its standard error)."""

    name: str
    function: Callable[[Iterable[Outputs]], Any]
    higher_is_better: bool = True

    def evaluate(self, outputs: Iterable[Outputs]) -> tuple[float, float]:
        """(score, standard error or NaN); raises PlanError where the function fails."""
        with users_code(f"metric '{self.name}' failed", PlanError):
            found = self.function(outputs)
        error: Any = math.nan
        if isinstance(found, Mapping):
            error = found.get("stderr", math.nan)
            found = next((v for k, v in found.items() if k != "stderr"), None)
        try:
            score, spread = float(found), float(error)
        except (TypeError, ValueError) as e:
            raise PlanError(
                f"metric '{self.name}' returned {type(found).__name__}; return a number, or a "
                "mapping whose first entry is one"
            ) from e
        if not math.isfinite(score):
            raise PlanError(f"metric '{self.name}' returned {score}; a ranking needs finite scores")
        return score, spread

    def score(self, sums: Array) -> Array:
        """The score as the function returned it."""
        return np.asarray(sums[..., 0])

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """How far the score is below the float model's, or above it where lower is better."""
        gap = float_sums[..., 0] - sums[..., 0]
        return np.asarray(gap if self.higher_is_better else -gap)


def load_function(text: str) -> Callable[[Iterable[Outputs]], Any]:
    """The function that `module:function` names; raises PlanError where there is none.

    The module is looked for on the Python path and in the current folder.
    """
    advice = "; write module:function, with the module on the Python path or in the current folder"
    with users_code(f"metric '{text}' cannot be imported", PlanError, advice):
        function = attribute_of(text)
    if not callable(function):
        raise PlanError(f"metric '{text}' is {type(function).__name__}; name a function")
    made: Callable[[Iterable[Outputs]], Any] = function
    return made
