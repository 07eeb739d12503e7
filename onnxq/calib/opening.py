"""What calibration data is given as, opened: each text, path or value in hand is a source."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data_sources import Record, Source, by_number, open_source
from onnxq.calib.fitting import InputInfo
from onnxq.calib.images import image_paths, open_images
from onnxq.calib.in_memory import WHERE, in_memory
from onnxq.calib.preprocess import PRESETS, Preprocess
from onnxq.errors import DataError

RANDOM_SAMPLES = 16


@dataclass(frozen=True)
class Random:
    """Seeded noise: normal floats, zeros and ones for integers; an axis of unknown length is 1
    if it is the first."""

    inputs: Mapping[str, InputInfo]
    samples: int
    seed: int
    stacked = False

    def __len__(self) -> int:
        return self.samples

    def record(self, i: int) -> Record:
        rng = np.random.default_rng([self.seed, i])
        return {name: _noise(rng, name, info) for name, info in self.inputs.items()}

    def where(self, i: int) -> str:
        return "random data"


def open_each(
    given: Sequence[object],
    inputs: Mapping[str, InputInfo],
    limit: int | None,
    seed: int,
    preprocess: Preprocess | None = None,
    fed: Collection[str] = (),
) -> list[Source]:
    """The source of each thing that is given; raises DataError as `open_data`.

    fed: inputs that are fed back, which data need not give.
    """
    found: list[Source] = []
    free = {name: info for name, info in inputs.items() if name not in fed}
    for each in given:
        if not isinstance(each, str | Path):
            found.append(in_memory(each, {n: i.shape for n, i in free.items()}, limit, fed))
        elif str(each) == "random":
            found.append(Random(free, limit or RANDOM_SAMPLES, seed))
        elif preprocess is not None:
            found.append(_images(str(each), free, preprocess))
        else:
            found.append(_named(str(each), inputs, limit, fed))
        if not len(found[-1]):
            raise DataError(f"{_called(each)} holds no samples; give at least one")
    return found


def as_several(sources: object) -> list[object]:
    """What is given, one by one: a list of texts and paths is several, any other is one."""
    if isinstance(sources, list | tuple) and all(isinstance(s, str | Path) for s in sources):
        return list(sources)
    return [sources]


def several_folders(sources: object) -> list[object]:
    """What is given, one by one, a folder that holds folders alone as these."""
    return [each for one in as_several(sources) for each in _folders(one)]


def _folders(given: object) -> list[object]:
    if not isinstance(given, str | Path) or not Path(given).is_dir():
        return [given]
    inside = [path for path in Path(given).iterdir() if not path.name.startswith(".")]
    sets = any(path.name.startswith("test_data_set_") for path in inside)
    if not inside or sets or not all(path.is_dir() for path in inside):
        return [given]
    return [str(path) for path in sorted(inside, key=lambda path: by_number(path.name))]


def _called(given: object) -> str:
    return f"'{given}'" if isinstance(given, str | Path) else WHERE


def _images(text: str, inputs: Mapping[str, InputInfo], preprocess: Preprocess) -> Source:
    if len(inputs) != 1:
        listed = ", ".join(f"'{name}'" for name in inputs)
        raise DataError(f"images are data for a model with one input, this one has {len(inputs)}: "
                        f"{listed}; give arrays by input name, .npz")  # fmt: skip
    ((name, info),) = inputs.items()
    return open_images(text, preprocess, name, info.shape, info.dtype)


def _named(
    text: str, inputs: Mapping[str, InputInfo], limit: int | None, fed: Collection[str]
) -> Source:
    """The source that a text names; where that are images, the error that says what is missing."""
    try:
        return open_source(text, list(inputs), limit, fed)
    except DataError:
        if not (image := _first_image(text)):
            raise
    raise DataError(
        f"'{text}' names images, such as '{image.name}'; say how the model takes them: "
        f"--calib {shlex.quote(text)} --preprocess {' or '.join(PRESETS)}, or a YAML file"
    )


def _first_image(text: str) -> Path | None:
    """The first image that a text names, None where it names none."""
    try:
        return next(image_paths(text), None)
    except DataError:
        return None


def _noise(rng: np.random.Generator, name: str, info: InputInfo) -> Array:
    shape = tuple(1 if n is None and k == 0 else n for k, n in enumerate(info.shape or (0, None)))
    if None in shape:
        raise DataError(
            f"random data for input '{name}', {info}, needs its lengths; fix them in the model or "
            "give real data"
        )
    if info.dtype.kind == "f":
        return rng.standard_normal(shape).astype(info.dtype)  # type: ignore[arg-type]
    return rng.integers(0, 2, shape).astype(info.dtype)  # type: ignore[arg-type]
