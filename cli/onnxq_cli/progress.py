"""Progress on stderr: a bar with time left per stage, silent where stderr is not a terminal.

The parts of a stage stand under it for as long as they last. With -v a line for each stage that is
through, and for each of its parts that took a second, with the time it took, terminal or not.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from onnxq.progress import WITHIN, telling
from onnxq_cli.verbosity import is_quiet

LONG = 1.0  # seconds from which on a part of a stage is a line of -v too

log = logging.getLogger("onnxq.progress")


class Bars:
    """One bar per stage: `with Bars() as tick: work(progress=tick)`.

    Within it, it is told of every stage, whether it is handed on or not.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _Steps(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=is_quiet() or not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, float] = {}
        self._told = ExitStack()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of `stage` are through."""
        names = stage.split(WITHIN)
        if stage not in self._begun:
            self._begun[stage] = time.perf_counter()
            self._show(stage, names)
        known = None if (done, total) == (0, 1) else total  # a single step is no measure
        if stage in self._tasks:
            self._progress.update(self._tasks[stage], completed=done, total=known)
        if done < total:
            return
        seconds = time.perf_counter() - self._begun.pop(stage)
        if len(names) == 1 or seconds >= LONG:
            log.info("%s: %d of %d, %.1f s", stage, done, total, seconds)
        self._clear(stage + WITHIN)
        if len(names) > 1:  # its line makes room
            self._clear(stage)

    def _show(self, stage: str, names: list[str]) -> None:
        """A line for a stage that begins, anew where it was there already."""
        if stage in self._tasks:
            self._progress.reset(self._tasks[stage], total=None)
        else:
            text = "  " * (len(names) - 1) + names[-1]
            self._tasks[stage] = self._progress.add_task(text, total=None)

    def _clear(self, beginning: str) -> None:
        """Take away the lines of stages that are through, or were left."""
        for stage in [name for name in self._tasks if name.startswith(beginning)]:
            self._progress.remove_task(self._tasks.pop(stage))
            self._begun.pop(stage, None)

    def __enter__(self) -> Bars:
        if not self._progress.disable:
            self._progress.start()
        self._told.enter_context(telling(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._told.close()
        if error is not None:  # what is said of it stands alone
            self._progress.live.transient = True
        if not self._progress.disable:  # or it ends its silence with an empty line
            self._progress.stop()


class _Steps(ProgressColumn):
    """How many steps of how many; nothing where they are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self._counted = MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        """The column of a stage."""
        return Text() if task.total in (None, 1) else self._counted.render(task)
