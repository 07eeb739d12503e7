"""One search for all recoveries: keep what no output argues against.

What a recovery would change is tried in batches, each on top of what is kept already. A batch that
an output argues against is divided, and its parts are tried in its place, after all others, without
what is kept by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from onnxq.judge.verdict import Errors

T = TypeVar("T")
LOWERS = "does not raise the SQNR of an output"


@dataclass(frozen=True)
class Kept(Generic[T]):
    """items: what is kept, in the order in which it was. before, after: errors without and with it.
    refused: batches that were tried in vain, each with the output that argued against it."""

    items: tuple[T, ...]
    before: Errors
    after: Errors
    refused: tuple[tuple[Sequence[T], str], ...] = ()

    def reasons(self, nodes_of: Callable[[T], Iterable[str]]) -> dict[str, str]:
        """Why nodes that belong to no kept item are left as they were."""
        kept = {node for item in self.items for node in nodes_of(item)}
        return {
            node: f"{LOWERS}: '{output}'"
            for batch, output in self.refused
            for item in batch
            for node in nodes_of(item)
            if node not in kept
        }


def keep(
    batches: Iterable[Sequence[T]],
    before: Errors,
    errors_of: Callable[[Sequence[T]], Errors],
    worse: Callable[[Errors, Errors], str | None],
    divided: Callable[[Sequence[T], str], Iterable[Sequence[T]]],
    trials: int | None = None,
) -> Kept[T]:
    """Those of the items that no output argues against, after at most so many trials.

    before: errors with none of them. errors_of: with some. worse: the output that argues against a
    change of the errors. divided: what is tried in place of a batch that such an output refuses.
    """
    waiting = deque(batch for batch in batches if batch)
    kept, now = list[T](), before
    refused = list[tuple[Sequence[T], str]]()
    tried = 0
    while waiting and tried != trials:
        there = set(map(id, kept))
        batch = [item for item in waiting.popleft() if id(item) not in there]
        if not batch:
            continue
        tried += 1
        after = errors_of([*kept, *batch])
        output = worse(now, after)
        if output is None:
            kept, now = [*kept, *batch], after
            continue
        refused.append((batch, output))
        waiting += [part for part in divided(batch, output) if part]
    return Kept(tuple(kept), before, now, tuple(refused))


def fewer(reaches: Callable[[T, str], bool]) -> Callable[[Sequence[T], str], list[Sequence[T]]]:
    """What divides a batch whose first items matter most: the first half, and what does not reach
    the output that refuses it, such as a box head where scores do. reaches: (item, output)."""

    def divided(batch: Sequence[T], output: str) -> list[Sequence[T]]:
        apart = [item for item in batch if not reaches(item, output)]
        half = batch[: len(batch) // 2]
        return [half, apart] if 0 < len(apart) < len(batch) else [half]

    return divided


def halves(batch: Sequence[T], output: str = "") -> list[Sequence[T]]:
    """Both halves of a batch; none of a single item."""
    half = len(batch) // 2
    return [batch[:half], batch[half:]] if half else []
