"""What is learned, written block by block, so that a run that is killed goes on where it was.

An archive with JSON in it, and for every finished block its codes and scales, shares of ranges and
shifts of biases, by their places in the block. It is of one model, data, options and beginning: of
any other run nothing is taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data_numpy import UNREADABLE
from onnxq.errors import DataError
from onnxq.files import replacing
from onnxq.finetune.blocks import Block
from onnxq.finetune.learned import Learned, Result
from onnxq.json_text import from_json
from onnxq.passes.insert_qdq import Codes
from onnxq.recover.draft import Draft
from onnxq.saved import STUMBLES, FileForm

FORM = FileForm(
    "onnxq.finetune", 1, DataError,
    absent="no state of a finetune at '{path}'",
    other="'{path}' is not a state of a finetune that this version reads: {found}; "
    "name another file",
    broken="'{path}' is not a state of a finetune or is cut short ({class}: {why}); delete it",
)  # fmt: skip


def key_of(draft: Draft, *more: str) -> str:
    """The hash of a beginning: where the draft stands, and what else decides the result."""
    sha = hashlib.sha256("\0".join(more).encode())
    assert draft.ranges is not None
    for name, found in sorted(draft.ranges.tensors.items()):
        sha.update(f"{name}\0{found.limit}\0".encode())
    for (name, spec), codes in sorted(draft.codes.items(), key=lambda item: str(item[0])):
        sha.update(f"{name}\0{spec}\0".encode())
        sha.update(np.ascontiguousarray(codes.scale).tobytes())
        sha.update(np.ascontiguousarray(codes.codes).tobytes())
    for site, shift in sorted(draft.shifts.items(), key=lambda item: item[0].node):
        sha.update(f"{site.node}\0".encode())
        sha.update(np.ascontiguousarray(shift).tobytes())
    return sha.hexdigest()


@dataclass
class State:
    """The blocks that are finished, in order; path: where they are written, None for nowhere."""

    path: Path | None
    key: str
    done: list[tuple[str, dict[str, Any], dict[str, Array]]] = field(default_factory=list)

    @staticmethod
    def open(path: Path | None, key: str) -> State:
        """What is at `path`, if it is of this run. Raises DataError for a file of another kind."""
        state = State(path, key)
        if path is not None and path.exists():
            found = FORM.read(path, _parsed, (*STUMBLES, *UNREADABLE))
            if found[0] == key:
                state.done = found[1]
        return state

    def result(self, k: int, block: Block) -> Result | None:
        """What was learned of block `k`; None where it is not finished."""
        if k >= len(self.done) or self.done[k][0] != block.name:
            return None
        _, said, arrays = self.done[k]
        learned = _learned(block, arrays) if said["kept"] else None
        return Result(learned, said["before"], said["after"], said["why"])

    def add(self, block: Block, result: Result) -> None:
        """Block by block; the file is whole after each."""
        said = {"kept": result.learned is not None, "before": result.before,
                "after": result.after, "why": result.why}  # fmt: skip
        arrays = {} if result.learned is None else _arrays(block, result.learned)
        self.done.append((block.name, said, arrays))
        if self.path is None:
            return
        head = {**FORM.head(), "key": self.key,
                "blocks": [{"name": name, **each} for name, each, _ in self.done]}  # fmt: skip
        stored = {f"{k}/{name}": x for k, (*_, its) in enumerate(self.done)
                  for name, x in its.items()}  # fmt: skip
        with replacing(self.path) as temporary, open(temporary, "wb") as out:
            np.savez(out, head=np.array(json.dumps(head)), **stored)  # type: ignore[arg-type]


def _parsed(path: Path) -> tuple[str, list[tuple[str, dict[str, Any], dict[str, Array]]]]:
    with np.load(path, allow_pickle=False) as archive:
        head = from_json(str(archive["head"]))
        FORM.check(head, path)
        held: list[dict[str, Array]] = [{} for _ in head["blocks"]]
        for name in archive.files:
            if name != "head":
                k, _, rest = name.partition("/")
                held[int(k)][rest] = archive[name]
    return head["key"], [(said["name"], said, its) for said, its in zip(head["blocks"], held,
                                                                      strict=True)]  # fmt: skip


def _arrays(block: Block, learned: Learned) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for j, weight in enumerate(block.weights):
        if weight in learned.codes:
            found[f"codes/{j}"] = learned.codes[weight].codes
            found[f"scale/{j}"] = learned.codes[weight].scale
    for j, group in enumerate(block.groups):
        if group in learned.shares:
            found[f"share/{j}"] = np.array(learned.shares[group])
    for j, site in enumerate(block.sites):
        if site in learned.shifts:
            found[f"shift/{j}"] = learned.shifts[site]
    return found


def _learned(block: Block, arrays: Mapping[str, Array]) -> Learned:
    def each(kind: str, things: Sequence[Any]) -> dict[Any, Array]:
        return {t: arrays[f"{kind}/{j}"] for j, t in enumerate(things) if f"{kind}/{j}" in arrays}

    codes, scales = each("codes", block.weights), each("scale", block.weights)
    shares = {group: float(x) for group, x in each("share", block.groups).items()}
    return Learned({w: Codes(scales[w], codes[w]) for w in codes}, shares,
                   each("shift", block.sites))  # fmt: skip
