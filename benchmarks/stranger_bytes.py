"""A model that reads files: magika, on files of this installation."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
from stranger import Data, Feed, Places, Stranger
from stranger_scores import same_class

BLOCK, SIDE, PADDING = 4096, 1024, 256


def file_feed(path: Path) -> Feed:
    """The first and last 1024 bytes without white space, padded with 256."""
    content = path.read_bytes()
    head, tail = content[:BLOCK].lstrip()[:SIDE], content[-BLOCK:].rstrip()[-SIDE:]
    x = np.full((1, 2 * SIDE), PADDING, np.int32)
    x[0, : len(head)] = list(head)
    x[0, 2 * SIDE - len(tail) :] = list(tail)
    return {"bytes": x}


def file_data(places: Places) -> Data:
    """Files of this Python and its packages, those unpacked and the photographs among them: at most
    24 of a suffix, every second one to calibrate on."""
    roots = [Path(sysconfig.get_paths()["stdlib"]), Path(sysconfig.get_paths()["purelib"]),
             places.packages]  # fmt: skip
    found: dict[str, list[Path]] = {}
    for path in (p for root in roots for p in sorted(root.rglob("*.*"))):
        kept = found.setdefault(path.suffix.lower(), [])
        if len(kept) < 24 and path.is_file() and path.stat().st_size >= 16:
            kept.append(path)
    for path in (places.photos("coco", "val") + places.photos("imagenet", "val"))[::12]:
        found.setdefault(path.suffix.lower(), []).append(path)
    files = [p for suffix in sorted(found) for p in found[suffix]]
    return Data([file_feed(p) for p in files[::2]], [file_feed(p) for p in files[1::2]])


READING = (
    Stranger("magika", "magika file types", "magika==1.0.3",
             "magika/models/standard_v3_3/model.onnx", "top-1", file_data, same_class),
)  # fmt: skip
