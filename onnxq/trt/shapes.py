"""Shapes of dynamic inputs: `images:1x3x640x640:4x3x640x640:8x3x640x640`, or one shape for all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnxq.errors import OnnxqError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InputShape:
    """The smallest, most likely and largest shape of one input: one row of a profile."""

    name: str
    min: Shape
    opt: Shape
    max: Shape


def parse_shapes(texts: Iterable[str]) -> tuple[InputShape, ...]:
    """The profile that `name:min:opt:max` (or `name:shape`) texts spell; shapes as `1x3x640x640`.

    A name may hold ':'. Raises OnnxqError for a text that is neither, a name given twice, or
    shapes of different rank or with min > opt or opt > max.
    """
    profile: dict[str, InputShape] = {}
    for text in texts:
        row = _parse(text)
        if row.name in profile:
            raise OnnxqError(f"two shapes for input '{row.name}'; give one name:min:opt:max each")
        profile[row.name] = row
    return tuple(profile.values())


def _parse(text: str) -> InputShape:
    name, *shapes = text.rsplit(":", 3)
    if not (name and len(shapes) == 3 and all(map(_is_shape, shapes))):
        name, _, shape = text.rpartition(":")
        shapes = [shape] * 3
    two = re.search(r":\d+[x,][\dx,]*$", name) is not None  # neither one shape nor three
    if not name or two or not _is_shape(shapes[0]):
        raise OnnxqError(
            f"'{text}' is not a shape; write name:1x3x224x224, or name:min:opt:max such as "
            "images:1x3x640x640:4x3x640x640:8x3x640x640"
        )
    row = InputShape(name, *(tuple(int(d) for d in re.split("[x,]", s)) for s in shapes))
    ordered = all(a <= b <= c for a, b, c in zip(row.min, row.opt, row.max, strict=False))
    if not (len(row.min) == len(row.opt) == len(row.max) and ordered):
        raise OnnxqError(f"'{text}': min, opt and max need equal ranks and min <= opt <= max")
    return row


def _is_shape(text: str) -> bool:
    return re.fullmatch(r"\d+([x,]\d+)*", text) is not None


def suggest(name: str, dims: Sequence[int]) -> str:
    """A shape text for an input whose dynamic dimensions are negative: batch 1, others 224."""
    fixed = [d if d >= 0 else 1 if i == 0 else 224 for i, d in enumerate(dims)]
    return f"{name}:{'x'.join(map(str, fixed))}"


def profile_of(samples: Iterable[Mapping[str, Shape]]) -> tuple[str, ...]:
    """`name:min:opt:max` for each input, from the shapes seen; a scalar has none.

    Lengths of several inputs may belong together, as those of a mask and of what it masks: so opt
    is the shape of the inputs in one sample, of those that most samples have. Raises OnnxqError
    where an input's rank varies.
    """
    wholes: Counter[tuple[tuple[str, Shape], ...]] = Counter()
    for sample in samples:
        wholes[tuple((name, tuple(shape)) for name, shape in sample.items())] += 1
    likely = dict(wholes.most_common(1)[0][0]) if wholes else {}
    texts = []
    for name, opt in likely.items():
        shapes = [dict(whole)[name] for whole in wholes]
        if len({len(s) for s in shapes}) > 1:
            raise OnnxqError(f"input '{name}' varies in rank, from {min(shapes)} to {max(shapes)}")
        if not opt:
            continue
        least = tuple(map(min, zip(*shapes, strict=True)))
        most = tuple(map(max, zip(*shapes, strict=True)))
        texts.append(":".join([name, *("x".join(map(str, s)) for s in (least, opt, most))]))
    return tuple(texts)
