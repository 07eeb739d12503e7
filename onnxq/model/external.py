"""External data: a model's weights come from its own folder alone.

A model names the files of its weights, and one from a stranger may name any file that its user can
read, whose bytes would come out in the output. The rules are those of onnx (GHSA-538c-55jv-c5g9): a
relative path that stays in the model's folder, no symbolic link on the way, a regular file, and no
second name of one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from onnxq.errors import ModelError
from onnxq.model.damage import stored_tensors

Owner = onnx.GraphProto | onnx.FunctionProto


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the external data files that the tensors of `model` point to, sorted."""
    return sorted(set(_locations(model)))


def files_beside(path: Path, model: onnx.ModelProto) -> list[Path]:
    """The external data files of the model that was read from `path`, sorted by name.

    Raises ModelError for a file that is missing, or that is not the model's own.
    """
    return [_own_file(path, name) for name in external_files(model)]


def _locations(model: onnx.ModelProto) -> Iterator[str]:
    """The file of every tensor that has one, those of subgraphs, attributes and functions too."""
    owners: list[Owner] = [model.graph, *model.functions]
    for owner in owners:
        for tensor in (*stored_tensors(owner), *_sparse(owner)):
            if uses_external_data(tensor):
                yield from (e.value for e in tensor.external_data if e.key == "location")


def _sparse(owner: Owner) -> Iterator[onnx.TensorProto]:
    """The two parts of every sparse tensor that a graph or function holds."""
    if isinstance(owner, onnx.GraphProto):
        for sparse in owner.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in owner.node:
        for attribute in node.attribute:
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for body in (attribute.g, *attribute.graphs):
                yield from _sparse(body)


def _own_file(path: Path, name: str) -> Path:
    """The file of that name in the folder of the model at `path`; raises ModelError."""
    given, parts = Path(name), Path(os.path.normpath(name)).parts
    if given.is_absolute() or given.drive or not parts or parts[0] == "..":
        raise ModelError(
            f"'{path}' keeps its weights in '{name}', but weights are read only from the model's "
            "own folder; put that file beside the model, and save the model with its new name"
        )
    file = path.parent
    try:
        for part in parts:
            file = file / part
            if file.is_symlink():
                raise ModelError(
                    f"'{path}' keeps its weights in '{name}', where '{part}' is a link, which may "
                    "lead anywhere; copy the model with its weights, links followed (cp -rL)"
                )
        found = file.lstat()
    except (OSError, ValueError):
        raise ModelError(
            f"'{path}' keeps its weights in '{name}', which is not beside it; "
            "copy that file there too"
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"'{path}' keeps its weights in '{name}', which is no file; put it there")
    if found.st_nlink > 1:
        raise ModelError(
            f"'{path}' keeps its weights in '{name}', a file with {found.st_nlink} names (hard "
            "links), one of them elsewhere perhaps; copy it and give the copy its name"
        )
    return file


def replaced_data(path: Path, kept: Path | None) -> list[Path]:
    """The weights that the model at `path` has in a file of its own, as `graph.save` names it, and
    that no other model in the folder names: they go with it when it is replaced.

    `kept` is the file of the model that replaces it.
    """
    name = re.compile(re.escape(path.name) + r"\.[0-9a-f]{12}\.data")
    found = [f for f in path.parent.iterdir() if name.fullmatch(f.name) and f != kept]
    if not found or not path.is_file():
        return []
    before = path.read_bytes()
    others = [f for f in path.parent.glob("*.onnx") if f != path and f.is_file()]
    gone = [f for f in found if f.name.encode() in before]
    return [f for f in gone if not any(f.name.encode() in o.read_bytes() for o in others)]
