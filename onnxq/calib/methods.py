"""Calibration methods by name, as `--method` takes them: `mse`, `percentile:99.9`.

A method is a frozen dataclass that reads a range off a histogram; its repr is its configuration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from onnxq.calib.entropy import Entropy
from onnxq.calib.histogram import Histogram
from onnxq.calib.max import Max
from onnxq.calib.mse import Mse
from onnxq.calib.percentile import Percentile
from onnxq.errors import PlanError
from onnxq.numerics import Limit
from onnxq.spec import QuantSpec

CHOICES = "max, percentile, percentile:99.9, mse, entropy, auto"


class Method(Protocol):
    """Reads a range off a histogram."""

    def __call__(self, histogram: Histogram, spec: QuantSpec) -> Limit:
        """amax: finite, not negative, at most the largest |x|; 0 for all zeros.

        For an asymmetric spec it may be (low, high), which hold 0 between them.
        """


@dataclass(frozen=True)
class Auto:
    """Ask for the method that does best at the model's outputs. It reads no histogram itself."""


def method_name(written: str) -> str:
    """A method as `--method` takes it, of its repr: `Percentile(p=99.9)` is percentile:99.9.

    What is no repr of a method stays as it is.
    """
    found = re.fullmatch(r"(\w+)\((?:\w+=)?([\d.]*).*\)", written)
    if found is None:
        return written
    name, number = found[1].lower().removeprefix("gated"), found[2]
    return f"{name}:{number}" if name == "percentile" and number else name


def parse_method(text: str) -> Method | Auto:
    """The method that `text` names; raises PlanError that lists the choices for any other."""
    name, _, argument = text.strip().lower().partition(":")
    plain: dict[str, Method | Auto] = {
        "max": Max(),
        "percentile": Percentile(),
        "mse": Mse(),
        "entropy": Entropy(),
        "auto": Auto(),
    }
    if name in plain and not argument:
        return plain[name]
    if name == "percentile":
        try:
            return Percentile(float(argument))
        except ValueError as e:
            raise PlanError(
                f"'{argument}' in method '{text}' is not a number; write percentile:99.9"
            ) from e
    raise PlanError(f"unknown method '{text}'; choose one of {CHOICES}")
