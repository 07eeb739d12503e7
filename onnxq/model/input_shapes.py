"""Shapes of dynamic inputs: `images:1x3x640x640:4x3x640x640:8x3x640x640`, or one shape for all."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxq.errors import OnnxqError

Shape = tuple[int, ...]
SEEN = "onnxq.shapes"  # the entry of a model's metadata


@dataclass(frozen=True)
class InputShape:
    """The smallest, most likely and largest shape of one input: one row of a profile."""

    name: str
    min: Shape
    opt: Shape
    max: Shape

    def __str__(self) -> str:
        shapes = ("x".join(map(str, shape)) for shape in (self.min, self.opt, self.max))
        return ":".join([self.name, *shapes])


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


def shapes_seen(samples: Iterable[Mapping[str, Shape]]) -> tuple[InputShape, ...]:
    """Smallest, likely and largest shape of each input that is no scalar and has one rank.

    Lengths of several inputs may belong together, as those of a mask and of what it masks: so opt
    is the shape of the inputs in one sample, of those that most samples have.
    """
    wholes: Counter[tuple[tuple[str, Shape], ...]] = Counter()
    for sample in samples:
        wholes[tuple((name, tuple(shape)) for name, shape in sample.items())] += 1
    rows = []
    for name, opt in wholes.most_common(1)[0][0] if wholes else ():
        shapes = [dict(whole)[name] for whole in wholes]
        if opt and len({len(s) for s in shapes}) == 1:
            least = tuple(map(min, zip(*shapes, strict=True)))
            most = tuple(map(max, zip(*shapes, strict=True)))
            rows.append(InputShape(name, least, opt, most))
    return tuple(rows)


def profile_of(samples: Iterable[Mapping[str, Shape]]) -> tuple[str, ...]:
    """`name:min:opt:max` for each input, from the shapes seen; a scalar has none.

    Raises OnnxqError where an input's rank varies.
    """
    kept = [dict(sample) for sample in samples]
    for name in kept[0] if kept else ():
        shapes = [sample[name] for sample in kept]
        if len({len(s) for s in shapes}) > 1:
            raise OnnxqError(f"input '{name}' varies in rank, from {min(shapes)} to {max(shapes)}")
    return tuple(map(str, shapes_seen(kept)))


def remembered(model: onnx.ModelProto, manifest: Path) -> tuple[str, ...]:
    """`name:min:opt:max` for each dynamic input of a quantized model, of the data that it was
    quantized with: by its own metadata, or by the manifest beside it. () where they do not say it
    of all, or say what does not fit."""
    dims = {i.name: _dims(i) for i in model.graph.input if -1 in _dims(i)}
    with contextlib.suppress(OnnxqError, OSError, ValueError, LookupError, TypeError):
        own = next((p.value for p in model.metadata_props if p.key == SEEN), None)
        seen = json.loads(own) if own else json.loads(manifest.read_text("utf-8"))["data"]["shapes"]
        rows = [InputShape(n, *(tuple(seen[n][k]) for k in ("min", "opt", "max"))) for n in dims]
        texts = tuple(map(str, rows))
        if parse_shapes(texts) == tuple(rows) and all(_fits(row, dims[row.name]) for row in rows):
            return texts
    return ()


def documented(shapes: Iterable[InputShape]) -> dict[str, dict[str, Shape]]:
    """Shapes as the manifest and the metadata of a model hold them."""
    return {s.name: {"min": s.min, "opt": s.opt, "max": s.max} for s in shapes}


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape of an input, -1 for an axis of any length."""
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)


def _fits(row: InputShape, dims: Sequence[int]) -> bool:
    return all(
        len(shape) == len(dims) and all(d in (-1, n) for d, n in zip(dims, shape, strict=True))
        for shape in (row.min, row.opt, row.max)
    )
