"""What a device gave back: outputs in a `.npz`, or in the JSON of Polygraphy's `--save-outputs`.

In an .npz an array a name, the samples one after the other along the first axis, or an array a
sample, `NAME/0`, `NAME/1`, ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data_numpy import read_npz
from onnxq.errors import DataError
from onnxq.trt.runners import quiet

# what Polygraphy raises for a JSON of another form, beside its own
UNLIKE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Outputs:
    """names: of the outputs. samples: how many there are."""

    path: Path
    names: tuple[str, ...]
    samples: int
    take: Callable[[str, int], Array]

    def read(self, name: str, i: int, shape: tuple[int, ...]) -> Array:
        """An output of a sample; raises DataError where it has another shape."""
        found = np.asarray(self.take(name, i))
        if found.shape != shape and found.size == int(np.prod(shape)):
            found = found.reshape(shape)  # a runtime that squeezes, or flattens
        if found.shape != shape:
            raise DataError(f"output '{name}' of sample {i} in '{self.path}' is {found.shape}, the "
                            f"golden one {shape}")  # fmt: skip
        if found.dtype.kind not in "fiub":
            raise DataError(f"output '{name}' in '{self.path}' is {found.dtype}, no numbers")
        return found.astype(np.float32) if found.dtype == np.float16 else found


def load_outputs(path: str | Path, samples: int) -> Outputs:
    """Outputs of `samples` samples; raises DataError for a file of another form."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no outputs at '{path}'; write there what the device gives")
    if path.suffix == ".npz":
        return _of_arrays(path, read_npz(path), samples)
    if path.suffix == ".json":
        return _of_runs(path)
    raise DataError(f"'{path}' is not an .npz or a .json of Polygraphy's --save-outputs")


def _of_arrays(path: Path, arrays: Mapping[str, Array], samples: int) -> Outputs:
    apart = [re.fullmatch(r"(.+)[/:](\d+)", name) for name in arrays]
    if arrays and all(apart):
        found = {(m[1], int(m[2])): arrays[m[0]] for m in apart if m}
        names = tuple(dict.fromkeys(name for name, _ in found))
        count = min(sum(n == name for n, _ in found) for name in names)
        if any((name, i) not in found for name in names for i in range(count)):
            raise DataError(f"'{path}' numbers its samples with gaps; number them from 0 on")
        return Outputs(path, names, count, lambda name, i: found[name, i])
    lengths = {len(x) if x.ndim else 1 for x in arrays.values()}
    if len(lengths) != 1 or max(lengths, default=0) % max(samples, 1):
        return Outputs(
            path, tuple(arrays), min(lengths, default=0), lambda n, i: arrays[n][i : i + 1]
        )
    rows = lengths.pop() // max(samples, 1)
    return Outputs(path, tuple(arrays), samples,
                   lambda n, i: arrays[n][rows * i : rows * (i + 1)])  # fmt: skip


def _of_runs(path: Path) -> Outputs:
    runs = _runs(path)
    device = [name for name in runs if "onnxrt" not in name.lower()] or list(runs)
    if len(device) != 1:
        raise DataError(f"'{path}' holds the outputs of {', '.join(device) or 'nothing'}; save "
                        "only those of the device")  # fmt: skip
    iterations = runs[device[0]]
    names = tuple(iterations[0]) if iterations else ()
    return Outputs(path, names, len(iterations), lambda name, i: np.asarray(iterations[i][name]))


def _runs(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    from polygraphy.comparator import RunResults
    from polygraphy.exception import PolygraphyException

    try:
        with quiet():
            found = RunResults.load(str(path))
        return {name: list(results) for name, results in found.items()}
    except (PolygraphyException, *UNLIKE) as e:
        raise DataError(f"'{path}' is not JSON of Polygraphy's --save-outputs "
                        f"({' '.join(str(e).split())[:120]})") from e  # fmt: skip
