"""Numbers as the page holds them: five digits, and strings for what JSON has no number for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DIGITS = 5


def brief(value: float) -> float:
    """The value to five significant digits."""
    return float(f"{value:.{DIGITS}g}")


def finite(value: Any) -> Any:
    """The value with brief numbers; infinities and NaN, of which JSON knows nothing, as text."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return brief(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): finite(v) for key, v in value.items()}
    return [finite(v) for v in value]
