"""The times of an engine's layers, as `trtexec --exportProfile` writes them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from onnxq.errors import OnnxqError
from onnxq.layers.documents import read_document
from onnxq.layers.info import Layer
from onnxq.layers.names import UNNAMED, numbered

TIMES = ("averageMs", "timeMs", "medianMs")  # the first that there is
LONGEST = 1e12  # milliseconds of a layer, thirty years


@dataclass(frozen=True)
class Profile:
    """(layer, mean milliseconds of a run) in the order of the file. runs: how many were timed."""

    times: tuple[tuple[str, float], ...]
    runs: int = 1
    path: Path = field(default=Path(), compare=False)

    @property
    def total_ms(self) -> float:
        """The sum over the layers."""
        return math.fsum(ms for _, ms in self.times)


def load_profile(path: str | Path) -> Profile:
    """Times from a file of `--exportProfile`, or from {layer: milliseconds}, as a profiler of one's
    own may write; raises OnnxqError for any other file."""
    path = Path(path)
    document = read_document(path, _lists_times, _is_time)
    if isinstance(document, Mapping) and "Layers" in document:
        raise OnnxqError(f"'{path}' lists layers; give it as LAYERS, and the file of trtexec "
                         f"--exportProfile as --profile")  # fmt: skip
    runs = 1
    if isinstance(document, Mapping):
        entries: Sequence[object] = [{"name": n, "averageMs": t} for n, t in document.items()]
    elif isinstance(document, list):
        counts = [x for x in document if isinstance(x, Mapping) and "count" in x]
        runs = _runs(path, counts[0]["count"]) if counts else 1
        entries = [x for x in document if x not in counts]
    else:
        entries = ()
    times = _numbered([_time(path, entry, runs) for entry in entries])
    if not times:
        raise OnnxqError(f"'{path}' has no times of layers; write it by trtexec "
                         "--exportProfile=FILE --separateProfileRun")  # fmt: skip
    if not any(ms for _, ms in times):
        raise OnnxqError(f"'{path}' has no times of layers: each is 0 milliseconds")
    return Profile(times, runs, path)


def _lists_times(document: object) -> bool:
    """Whether a document is all times of layers."""
    return isinstance(document, list) and bool(document) and all(map(_is_time, document))


def _is_time(entry: object) -> bool:
    return isinstance(entry, Mapping) and bool({"count", *TIMES} & entry.keys())


def _numbered(times: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """The times, those of no name numbered among themselves, as `load_layers` does."""
    numbers = count()
    return tuple((n if n.strip() else numbered(next(numbers)), ms) for n, ms in times)


def _runs(path: Path, count: object) -> int:
    if isinstance(count, int) and count > 0:
        return count
    raise OnnxqError(f"'{path}' is no profile of TensorRT: it is of {str(count)[:20]} runs")


def _time(path: Path, entry: Any, runs: int) -> tuple[str, float]:
    try:
        name = entry.get("name") or ""
        key = next((key for key in TIMES if key in entry), "")
        if not key and "percentage" in entry:
            raise OnnxqError(f"'{path}' has each layer's share of the time and no milliseconds; "
                             "write it by trtexec --exportProfile=FILE")  # fmt: skip
        ms = entry[key] / runs if key == "timeMs" else entry[key]
        if not isinstance(name, str) or isinstance(ms, bool) or not 0 <= ms < LONGEST:
            raise ValueError(f"{ms} milliseconds")
        return name, float(ms)
    except (LookupError, TypeError, ValueError, AttributeError) as e:
        raise OnnxqError(f"'{path}' is not a profile of TensorRT: {str(entry)[:60]} is not "
                         "the time of a layer") from e  # fmt: skip


def _unnamed(name: str) -> bool:
    return name.startswith(UNNAMED)


def joined(layers: Sequence[Layer], profile: Profile) -> tuple[list[float | None], float]:
    """The time of each layer, None where the profile has none; and the milliseconds of entries that
    belong to no layer. The k-th of several layers of one name has the k-th time of that name; of
    layers without a name only where the profile has as many.

    Raises OnnxqError where most of the time belongs to no layer: the files are of two engines.
    """
    waiting: dict[str, list[float]] = defaultdict(list)
    for name, ms in profile.times:
        waiting[name].append(ms)
    for times in waiting.values():
        times.reverse()
    if sum(map(_unnamed, waiting)) != sum(_unnamed(x.name) for x in layers):
        layers = [replace(x, name="") if _unnamed(x.name) else x for x in layers]  # not guessed
    found = [waiting[x.name].pop() if waiting[x.name] else None for x in layers]
    lost = math.fsum(ms for times in waiting.values() for ms in times)
    if lost > profile.total_ms / 2 or all(ms is None for ms in found):
        strange = next(name for name, times in waiting.items() if times)
        raise OnnxqError(f"'{profile.path}' is of another engine: most of its time goes to layers "
                         f"that are not listed, such as '{strange[:60]}'")  # fmt: skip
    return found, lost
