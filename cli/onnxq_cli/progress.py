"""Progress on stderr: a bar with time left per stage, silent where stderr is not a terminal.

With -v a line for each stage that is through, with the time it took, terminal or not.
"""

from __future__ import annotations

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from onnxq_cli.verbosity import is_quiet

log = logging.getLogger("onnxq.progress")


class Bars:
    """One bar per stage: `with Bars() as tick: work(progress=tick)`."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=is_quiet() or not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of `stage` are through."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
            self._begun[stage] = time.perf_counter()
        self._progress.update(self._tasks[stage], completed=done, total=total)
        if done == total:
            seconds = time.perf_counter() - self._begun[stage]
            log.info("%s: %d of %d, %.1f s", stage, done, total, seconds)

    def __enter__(self) -> Bars:
        if not self._progress.disable:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._progress.disable:  # or it ends its silence with an empty line
            self._progress.stop()
