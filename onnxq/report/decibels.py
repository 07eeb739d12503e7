"""SQNR with its spread, as people read it: `22.4 dB ± 1.9 (least 17.0)`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def in_db(found: Mapping[str, Any]) -> str:
    """What a document says of a part, with the unit: its SQNR, the standard deviation of that of
    single samples and the least of these."""
    value = float(found["sqnr_db"])
    return "equal" if value == math.inf else f"{value:.1f} dB{_spread(found)}"


def figure(found: Mapping[str, Any]) -> str:
    """The same without the unit, for a column that has it in its head."""
    value = float(found["sqnr_db"])
    return "equal" if value == math.inf else f"{value:.1f}{_spread(found)}"


def _spread(found: Mapping[str, Any]) -> str:
    spread = float(found.get("spread_db", math.nan))
    least = float(found.get("least_db", math.nan))
    return "" if math.isnan(spread + least) else f" ± {spread:.1f} (least {least:.1f})"


def parts_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the outputs in a document are judged by; 0.1 knew the outputs alone."""
    parts: Mapping[str, Any] = found.get("parts") or found["outputs"]
    return parts
