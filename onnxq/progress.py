"""What is called while something takes its time, with how much is done of how much."""

from __future__ import annotations

from collections.abc import Callable

Count = Callable[[int, int], None]  # done, total
Progress = Callable[[str, int, int], None]  # stage, done, total


def silent(stage: str, done: int, total: int) -> None:
    """A progress that shows nothing."""
