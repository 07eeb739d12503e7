"""Who is told how far a piece of work is, stage by stage.

A progress is called with a stage, and how much of it is done of how much. Whoever is told is set
once, by the verb that was called; what happens below it names its stages:

    with telling(progress):                 what a verb does, by `told`
        with stage("recover"):              "recover"            0 of 1, in the end 1 of 1
            with stage("rounding"):         "recover: rounding"  0 of 1
                count(3, 40)                                     3 of 40
                tick = counting("samples", 8)
                tick()                      "recover: rounding: samples"  1 of 8

Only the thread that set it is told, so what workers call is silent.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from itertools import count as numbers
from typing import ParamSpec, TypeVar

Count = Callable[[int, int], None]  # done, total
Progress = Callable[[str, int, int], None]  # stage, done, total

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
WITHIN = ": "  # between a stage and one of its parts


def silent(stage: str, done: int, total: int) -> None:
    """A progress that shows nothing."""


@dataclass
class _Stage:
    """Who is told, the stage that is under way, and how many of its steps were said to be done."""

    progress: Progress
    name: str = ""
    done: int = 0
    total: int = 1

    def within(self, name: str) -> str:
        """The whole name of a part of this stage."""
        return f"{self.name}{WITHIN}{name}" if self.name else name


_HERE: ContextVar[_Stage | None] = ContextVar("stage", default=None)


def _here() -> _Stage:
    return _HERE.get() or _Stage(silent)


@contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Tell `progress` of the stages within; with `silent`, whoever is told already."""
    if progress is silent:
        yield
        return
    token = _HERE.set(_Stage(progress))
    try:
        yield
    finally:
        _HERE.reset(token)


def told(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb that tells its argument `progress` of the stages within it."""
    parameters = inspect.signature(verb)

    @wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with telling(parameters.bind(*args, **kwargs).arguments.get("progress", silent)):
            return verb(*args, **kwargs)

    return call


@contextmanager
def stage(name: str) -> Iterator[None]:
    """A stage, or a part of the one that is under way: told when it begins and when it ends.

    Also a decorator of functions that are one.
    """
    outer = _here()
    if outer.name.rpartition(WITHIN)[2] == name:  # it is under way
        yield
        return
    here = _Stage(outer.progress, outer.within(name))
    token = _HERE.set(here)
    try:
        here.progress(here.name, 0, 1)
        yield
        if here.done < here.total:
            here.progress(here.name, here.total, here.total)
    finally:
        _HERE.reset(token)


def count(done: int, total: int) -> None:
    """Tell that `done` of `total` steps of the stage that is under way are through."""
    here = _here()
    here.done, here.total = done, total
    if here.name:
        here.progress(here.name, done, total)


def counted(total: int) -> Callable[[], None]:
    """What is called when one of `total` steps of the present stage is through."""
    done = numbers(1)
    return lambda: count(next(done), total)


def counting(name: str, total: int) -> Callable[[], None]:
    """What is called when one of `total` steps of a part of the present stage is through."""
    here, done_so_far = _here(), numbers(1)
    if not here.name:
        return lambda: None
    whole = here.within(name)
    if total:
        here.progress(whole, 0, total)
    return lambda: here.progress(whole, next(done_so_far), total)


def steps(name: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items, each told as a step of a part of the present stage once it was worked on."""
    tick = counting(name, total)
    for item in items:
        yield item
        tick()
