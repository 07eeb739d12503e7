"""What a worker process keeps between tasks, so that it opens a model once and not for each.

Values that tasks may read at the same time are shared; the least recently used go first. What only
one task may use at a time is borrowed: as many are made as are in use at once, and they are kept
until something else is borrowed, for they are large. All go once the process has had no task for a
while.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 6  # shared values
IDLE = 60.0  # seconds without a task

_building, _lock = threading.RLock(), threading.Lock()
_shared: OrderedDict[str, Any] = OrderedDict()
_idle: list[tuple[str, Any]] = []
_tasks = 0
_timer: threading.Timer | None = None


def shared(key: str, build: Callable[[], T]) -> T:
    """The value under `key`; built by the first task that asks, while others wait for it."""
    with _building:
        with _lock:
            known = key in _shared
            value = _shared.get(key)
        if not known:
            value = build()
        with _lock:
            _shared[key] = value
            _shared.move_to_end(key)
            while len(_shared) > MOST:
                _shared.popitem(last=False)
    found: T = value  # type: ignore[assignment]
    return found


@contextmanager
def borrowed(key: str, build: Callable[[], T]) -> Iterator[T]:
    """A value under `key` that nobody else uses meanwhile; after an error it is not kept. What is
    idle under other keys goes."""
    with _lock:
        _idle[:] = [pair for pair in _idle if pair[0] == key]
        found = _idle.pop() if _idle else None
    value: T = build() if found is None else found[1]
    yield value
    with _lock:
        _idle.append((key, value))


@contextmanager
def task() -> Iterator[None]:
    """Within it the process has a task; some time after the last it lets go of everything."""
    global _tasks, _timer
    with _lock:
        _tasks += 1
        if _timer is not None:
            _timer.cancel()
    try:
        yield
    finally:
        with _lock:
            _tasks -= 1
            if not _tasks:
                _timer = threading.Timer(IDLE, _let_go)
                _timer.daemon = True
                _timer.start()


def _let_go() -> None:
    with _lock:
        if not _tasks:
            _shared.clear()
            _idle.clear()
