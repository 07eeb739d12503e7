"""The forms calibration data comes in. A source knows files, not models.

A record is one feed of the model, or one sample of a feed: arrays by input name. `Rows` slices
stacked arrays (first axis = samples) and keeps that axis with length 1; `Feeds` reads a record a
file; `Random` draws. All are random access and leave the data on disk.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from onnxq.arrays import Array
from onnxq.calib.data_numpy import (
    UNREADABLE,
    by_sequence,
    is_archive,
    map_npy,
    map_npz,
    read_npz,
    read_rows,
    refuse_scalar,
    unreadable,
)
from onnxq.errors import DataError
from onnxq.imports import attribute_of, users_code
from onnxq.json_text import from_json

Record = Mapping[str, Array]
RESET = "reset"  # the entry that is 1 where a sequence begins


class Source(Protocol):
    """Random access to records. `where(i)` names record i in messages."""

    stacked: bool

    def __len__(self) -> int: ...
    def record(self, i: int) -> Record: ...
    def where(self, i: int) -> str: ...


@dataclass(frozen=True)
class Rows:
    """Row i of stacked arrays, with a leading axis of 1. `keep` holds temporary files alive.

    firsts: of inputs that are fed back, a row for each sequence."""

    path: Path
    arrays: Mapping[str, Array]
    keep: object = None
    firsts: Mapping[str, Array] = field(default_factory=dict)
    stacked = True

    def __len__(self) -> int:
        return min(len(x) for x in self.arrays.values())

    def record(self, i: int) -> Record:
        return self.records([i])

    def records(self, rows: Sequence[int]) -> Record:
        """Several rows, one behind the other; those that lie side by side are read at once."""
        ends = [i + 1 for i, (a, b) in enumerate(pairwise(rows)) if b != a + 1]
        runs = [(rows[a], rows[b - 1] + 1) for a, b in pairwise([0, *ends, len(rows)])]
        found = {name: [read_rows(x, *run) for run in runs] for name, x in self.arrays.items()}
        return {n: x[0] if len(x) == 1 else np.concatenate(x) for n, x in found.items()}

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return sum(x.nbytes // max(1, len(x)) for x in self.arrays.values())

    def where(self, i: int) -> str:
        return f"'{self.path}'"


@dataclass(frozen=True)
class Feeds:
    """A record a path, read by `read` when it is asked for. `origin` is what messages name in
    place of temporary files, which `keep` holds alive."""

    paths: Sequence[Path]
    read: Callable[[Path], Record]
    keep: object = None
    origin: str = ""
    stacked = False

    def __len__(self) -> int:
        return len(self.paths)

    def record(self, i: int) -> Record:
        return self.read(self.paths[i])

    def where(self, i: int) -> str:
        return f"{self.origin} record {i}" if self.origin else f"'{self.paths[i]}'"


def open_source(
    text: str, names: Sequence[str], limit: int | None, fed: Collection[str] = ()
) -> Source:
    """The source that `text` names, for a model with inputs `names`, of which `fed` are fed back;
    raises DataError."""
    path = Path(text)
    if path.is_dir():
        return _open_folder(path, names, fed)
    if path.is_file():
        return _open_file(path, names, limit, fed)
    if re.fullmatch(r"[\w.]+:\w+", text):
        return _call(text, limit)
    raise DataError(
        f"no calibration data at '{text}'; give a .npy, .npz or Polygraphy .json file, a folder of "
        "them or of test_data_set_*, module:function, or 'random'"
    )


def spool(feeds: Iterable[Record], where: str) -> Feeds:
    """The feeds written to temporary files as they come, for random access."""
    folder = tempfile.TemporaryDirectory(prefix="onnxq-data-")
    paths: list[Path] = []
    for i, feed in enumerate(feeds):
        if not isinstance(feed, Mapping):
            raise DataError(
                f"{where} yields {type(feed).__name__} as record {i}; "
                "yield a dict of input name to array"
            )
        path = Path(folder.name) / f"{i}.npz"
        arrays = {
            str(name): as_array(x, f"{where} record {i}, '{name}'") for name, x in feed.items()
        }
        with zipfile.ZipFile(path, "w") as archive:  # np.savez cannot write an array named 'file'
            for name, x in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, x, allow_pickle=False)
        paths.append(path)
    return Feeds(paths, read_npz, folder, where)


def _open_file(path: Path, names: Sequence[str], limit: int | None, fed: Collection[str]) -> Source:
    if path.stat().st_size == 0:
        raise DataError(f"'{path}' is empty; write it again")
    if path.suffix in (".npy", ".npz") and is_archive(path):
        return _rows(path, *map_npz(path), fed)
    if path.suffix in (".npy", ".npz"):
        free = [name for name in names if name not in fed]
        if len(free) != 1:
            listed = ", ".join(f"'{n}'" for n in free)
            raise DataError(
                f"'{path}' is for a model with one input, this one has {len(free)}: {listed}; "
                "give an .npz or a folder with an array for each"
            )
        return Rows(path, {free[0]: map_npy(path)})
    if path.suffix == ".json":
        feeds = _read_json(path)
        return spool(islice(feeds, limit), f"'{path}'")
    raise DataError(
        f"'{path}' is not calibration data: expected .npy, .npz or a Polygraphy .json, found "
        f"'{path.suffix or path.name}'; convert it, first axis = samples"
    )


def _open_folder(path: Path, names: Sequence[str], fed: Collection[str]) -> Source:
    if sets := _sorted(path.glob("test_data_set_*")):
        return Feeds(sets, lambda folder: _read_test_data_set(folder, names))
    if (path / "input_0.pb").is_file():
        return Feeds([path], lambda folder: _read_test_data_set(folder, names))
    found = {suffix: _sorted(path.glob(f"*{suffix}")) for suffix in (".npy", ".npz", ".json")}
    kinds = [suffix for suffix, files in found.items() if files]
    if len(kinds) != 1:
        what = " and ".join(kinds) if kinds else "none of them"
        raise DataError(
            f"'{path}' must hold .npy files named by input, .npz samples, Polygraphy .json files "
            f"or test_data_set_* folders, and one kind only; found {what}"
        )
    if found[".npz"]:
        return Feeds(found[".npz"], read_npz)
    if found[".json"]:
        return Feeds(found[".json"], _read_one_json)
    free = [name for name in names if name not in fed]
    if len(free) == 1 and not any(f.stem == free[0].replace("/", "_") for f in found[".npy"]):
        return Feeds(found[".npy"], lambda file: {free[0]: map_npy(file)})  # a sample a file
    stem_of = {name.replace("/", "_"): name for name in names}  # '/' cannot be in a file name
    arrays = {stem_of.get(file.stem, file.stem): map_npy(file) for file in found[".npy"]}
    return _rows(path, arrays, None, fed)


def _rows(path: Path, arrays: Mapping[str, Array], keep: object, fed: Collection[str]) -> Rows:
    if not arrays:
        raise DataError(f"'{path}' holds no arrays; write one for each input of the model")
    for name, x in arrays.items():
        refuse_scalar(x, f"'{path}', '{name}'")
    arrays, firsts = by_sequence(arrays, fed)
    if len({len(x) for x in arrays.values()}) > 1:
        lengths = ", ".join(f"'{name}' {len(x)}" for name, x in arrays.items())
        raise DataError(
            f"'{path}' holds different numbers of samples by input: {lengths}; "
            "the first axis is the sample axis and must agree"
        )
    return Rows(path, arrays, keep, firsts)


def _read_test_data_set(folder: Path, names: Sequence[str]) -> Record:
    """`input_<k>.pb` files of an ONNX test data set; an unnamed tensor is the k-th input."""
    record: dict[str, Array] = {}
    for file in _sorted(folder.glob("input_*.pb")):
        try:
            tensor = onnx.TensorProto.FromString(file.read_bytes())
            k = int(file.stem.removeprefix("input_"))
            name = tensor.name if tensor.name in names else names[k]
            record[name] = onnx.numpy_helper.to_array(tensor)
        except (DecodeError, *UNREADABLE) as e:
            raise unreadable(file, e) from e
    return record


def _read_json(path: Path) -> Iterator[Record]:
    """Feeds of a Polygraphy `--save-inputs` file: a list of {name: encoded array}."""
    try:
        document = from_json(path.read_text("utf-8"))
        feeds = document if isinstance(document, list) else [document]
        for feed in feeds:
            yield {name: _decode(entry) for name, entry in feed.items()}
    except UNREADABLE as e:
        raise DataError(
            f"'{path}' is not what 'polygraphy run --save-inputs' writes ({type(e).__name__}: {e})"
        ) from e


def _read_one_json(path: Path) -> Record:
    feeds = list(_read_json(path))
    if len(feeds) != 1:
        raise DataError(
            f"'{path}' holds {len(feeds)} feeds, but in a folder each file is one feed; "
            "give the file itself as data"
        )
    return feeds[0]


def _decode(entry: Mapping[str, str]) -> Array:
    try:
        packed = base64.b64decode(entry["array"], validate=True)
    except binascii.Error:
        packed = entry["array"].encode("latin-1")  # written by an old Polygraphy
    return np.asarray(np.load(io.BytesIO(packed), allow_pickle=False))


def _call(text: str, limit: int | None) -> Source:
    advice = "; write module:function, with the module on the Python path or in the current folder"
    with users_code(f"'{text}' cannot be imported", DataError, advice):
        function = attribute_of(text)
    with users_code(f"'{text}' failed", DataError):
        feeds = function() if callable(function) else function
    if not isinstance(feeds, Iterable):
        raise DataError(f"'{text}' gives {type(feeds).__name__}; yield a dict of input to array")
    return spool(islice(_yielded(feeds, text), limit), f"'{text}'")


def _yielded(feeds: Iterable[Record], text: str) -> Iterator[Record]:
    """What the user's function yields; raises DataError, naming the record, where it fails."""
    end = object()
    with users_code(f"'{text}' failed", DataError):
        records = iter(feeds)
    for i in count():
        with users_code(f"'{text}' failed at record {i}", DataError):
            record: Any = next(records, end)
        if record is end:
            return
        yield record


def _sorted(paths: Iterable[Path]) -> list[Path]:
    """By name, numbers by their value: sample_2 before sample_10."""
    return sorted(paths, key=lambda path: by_number(path.name))


def by_number(name: str) -> list[str | int]:
    """What names are sorted by, so that numbers in them go by their value."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def as_array(value: object, where: str) -> Array:
    """`value` as an array of numbers; raises DataError, which names `where`."""
    with users_code(f"{where} cannot be made an array of numbers", DataError):
        x = np.asarray(value)
    if x.dtype.hasobject:
        raise DataError(f"{where} is an array of Python objects; make it one of numbers")
    return x
