"""The JSON that TensorRT wrote, out of a file: alone, one a line, one behind the other, or between
the log lines of trtexec, where its output was piped into the file; and what `polygraphy inspect
model --show layers` prints.

A document that is cut short is none: what stands in it is not taken for documents of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onnxq.errors import OnnxqError
from onnxq.json_text import from_json

LARGEST = 256 << 20  # bytes of a file
LOG = re.compile(r"(?:\[[^\]\n\"{}]*\][ \t]*)+")  # `[12/01/2026-10:00:00] [I] ` before a line
BEGINS = re.compile(r"\{\s*[\"}]|\[\s*[{\"\]]")  # a document, and no log line
GAP = re.compile(r"[\s,]*")
INSPECTED = re.compile(r"^[ \t]*Layer (\d+)[ \t]*\| (.*?) \[Op: ([^\]]+)\][ \t]*$", re.MULTILINE)
TENSOR = re.compile(r"([^\s{},]+) \[([^\]]*)\]")
SHAPE = re.compile(r"shape=\(([^)]*)\)")


def read_document(path: Path, wanted: Callable[[Any], bool], entry: Callable[[Any], bool]) -> Any:
    """The document of a file that is `wanted`, or a list of all that are an `entry`; what there is
    where none is. Raises OnnxqError, in one line, for a file without any, or with several."""
    found = _documents(path)
    fitting = [document for document in found if wanted(document)]
    if len(fitting) > 1 and any(other != fitting[0] for other in fitting):
        raise OnnxqError(f"'{path}' holds {len(fitting)} engines or profiles one after the other; "
                         "keep one in a file")  # fmt: skip
    if fitting:
        return fitting[0]
    if len(found) == 1:
        return found[0]
    return [document for document in found if entry(document)] or found


def _documents(path: Path) -> list[Any]:
    if not path.is_file():
        raise OnnxqError(f"'{path}' is not a file")
    if (size := path.stat().st_size) > LARGEST:
        raise OnnxqError(f"'{path}' has {size >> 20} MiB, more than an engine's JSON ever has "
                         f"({LARGEST >> 20} MiB); is it the engine itself?")  # fmt: skip
    content = path.read_bytes()
    try:
        return [from_json(content)]
    except ValueError as e:
        text = _text(content)
        found = _inspected(text) or _between(text)
        if found:
            return found
        why = "it is empty" if not size else str(e)
        raise OnnxqError(f"'{path}' is not JSON of TensorRT ({why}); write it again by trtexec "
                         f"--exportLayerInfo or --exportProfile") from e  # fmt: skip


def _text(content: bytes) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        return ""


def _between(text: str) -> list[Any]:
    """The documents between lines that are none; [] where one is cut short."""
    decoder, found, at = json.JSONDecoder(), [], 0
    for start in _starts(text):
        if start < at:
            continue
        try:
            document, at = decoder.raw_decode(text, start)
            found.append(document)
            while BEGINS.match(text, at := GAP.match(text, at).end()):  # type: ignore[union-attr]
                document, at = decoder.raw_decode(text, at)
                found.append(document)
        except (ValueError, RecursionError):
            return []
    return found


def _starts(text: str) -> Iterator[int]:
    """Where lines begin that begin a document, behind what a log puts before them."""
    at = 0
    while at < len(text):
        start = at + len(text[at : at + 200]) - len(text[at : at + 200].lstrip(" \t"))
        if not BEGINS.match(text, start) and (log := LOG.match(text, start)):
            start = log.end()
        if BEGINS.match(text, start):
            yield start
        end = text.find("\n", at)
        at = len(text) if end < 0 else end + 1


def _inspected(text: str) -> list[Any]:
    """What Polygraphy prints of an engine, in TensorRT's own form: of its first profile."""
    found = list(INSPECTED.finditer(text))
    layers: list[dict[str, Any]] = []
    for k, m in enumerate(found):
        end = found[k + 1].start() if k + 1 < len(found) else len(text)
        if int(m[1]) != len(layers):
            break
        reads, _, writes = text[m.end() : end].partition("->")
        layers.append({"Name": m[2], "LayerType": m[3], "Inputs": _tensors(reads),
                       "Outputs": _tensors(writes)})  # fmt: skip
    return [{"Layers": layers, "Bindings": []}] if layers else []


def _tensors(text: str) -> list[dict[str, Any]]:
    found = []
    for name, said in TENSOR.findall(text):
        shape = SHAPE.search(said)
        sizes = re.findall(r"-?\d+", shape[1]) if shape else []
        described = SHAPE.sub("", said)
        found.append({"Name": name, "Dimensions": list(map(int, sizes)),
                      "Format/Datatype": described})  # fmt: skip
    return found
