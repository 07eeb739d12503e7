"""JSON documents from files: checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from onnxq.errors import DataError
from onnxq.json_text import from_json
from onnxq.report.html.evidence import Document

MANIFEST = {"versions": dict, "config": dict, "model": dict, "data": dict, "nodes": dict,
            "agreement": dict, "tensors": dict, "quantized_nodes": dict, "float_nodes": dict,
            "recovered": list, "notes": list, "seconds": dict}  # fmt: skip
ENGINE = {"ok": bool, "build": dict}
FLEET = {"model": str, "ok": bool, "cells": list}
COMPARISON = {"samples": int, "outputs": dict, "tensors": dict, "failures": list}


def load_document(path: Path, fields: Mapping[str, type], made_by: str) -> Document:
    """A JSON document with `fields` of these types; raises DataError for any other file."""
    if not path.is_file():
        raise DataError(f"no file at '{path}'; '{made_by}' makes one")
    try:
        document = from_json(path.read_text("utf-8"))
    except ValueError as e:
        raise DataError(f"'{path}' is not JSON or is cut short: {e}; '{made_by}' makes one") from e
    if not isinstance(document, dict):
        raise DataError(f"'{path}' is not what '{made_by}' writes: it is not a JSON object")
    for name, kind in fields.items():
        if not isinstance(document.get(name), kind):
            found = "none" if name not in document else type(document[name]).__name__
            raise DataError(
                f"'{path}' is not what '{made_by}' writes: expected '{name}' to be a "
                f"{kind.__name__}, found {found}"
            )
    return document


def check_readable(path: Path, made_by: str, read: Callable[[], object]) -> None:
    """Raises DataError, naming the file, where `read` stumbles over what is in its document."""
    try:
        read()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        raise DataError(f"'{path}' is not what '{made_by}' writes ({type(e).__name__}: {e})") from e


def check_model(expected: str | None, found: str, what: str) -> None:
    """Raises DataError where `what` was made for another float model than the page's."""
    if expected is not None and found != expected:
        raise DataError(
            f"{what} made for model {found[:12]}, this one was quantized from {expected[:12]}; "
            "make it anew from the same float model"
        )
