"""JSON as every reader takes it, for all that is written and read as JSON.

JSON has no infinity and no NaN: such a number is the string "inf", "-inf" or "nan", which `float`
reads back. A character that does not print, such as a terminal's escape, is written `\\uXXXX`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """The value with infinities and NaN as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def to_json(document: Any, indent: int | None = 1, sort_keys: bool = False) -> str:
    """The text of a document, in printable characters alone; no newline at its end."""
    text = json.dumps(
        plain(document), indent=indent, sort_keys=sort_keys, allow_nan=False, ensure_ascii=False
    )
    return re.sub(r"[^\x00-\x7e]+", _visible, text)


def from_json(text: str | bytes) -> Any:
    """The document of a text; raises ValueError for one that is no JSON or is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as e:
        raise ValueError("it is nested too deep to be read") from e


def escaped(character: str) -> str:
    """A character as JSON writes those it has no other form for: `\\uXXXX`, once or twice."""
    pairs = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pairs[i]:02x}{pairs[i + 1]:02x}" for i in range(0, len(pairs), 2))


def _visible(match: re.Match[str]) -> str:
    return "".join(c if c.isprintable() else escaped(c) for c in match[0])
