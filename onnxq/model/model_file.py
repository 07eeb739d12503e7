"""Model files: read once, so that the hash, the metadata and the graph are of the same bytes."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import EncodeError
from onnx.serialization import registry

from onnxq.errors import ModelError
from onnxq.model import located
from onnxq.model.damage import broken_attribute, broken_name, broken_tensor
from onnxq.model.external import external_files, files_beside
from onnxq.model.mapped import Identity, identity_of

BLOCK = 1 << 20
EXTERNAL = "location"  # the key of the name of a file that weights are in

# A path, or a model in memory: as a message of onnx, or as its bytes.
ModelLike: TypeAlias = str | Path | onnx.ModelProto | bytes


@dataclass(frozen=True)
class ModelFile:
    """A model file as it was read.

    sha256: of the file and its external data files, in order of their names, as hex. bytes: of all
    of them. external: names of the latter. metadata: the metadata_props, class names, strides and
    the like, which a graph does not carry: whoever writes a model that stands for this one hands
    them on. made_by: the program that wrote it. seen: which files these were, and in which state.
    keep: a folder that goes with the last who holds it.
    """

    path: Path
    sha256: str
    bytes: int
    external: tuple[str, ...]
    metadata: Mapping[str, str]
    made_by: str
    seen: tuple[tuple[Path, Identity], ...] = field(repr=False)
    keep: object = field(default=None, repr=False, compare=False)

    def unchanged(self) -> Path:
        """The path, for who opens the file again; raises ModelError where it, or its external data,
        is not what was read."""
        for file, identity in self.seen:
            _check(file, identity)
        return self.path


def placed(model: ModelLike) -> tuple[Path, object]:
    """The file of a model, and what it goes with: a model in memory is written to one.

    Raises ModelError for a model that is too large for a single message.
    """
    if isinstance(model, str | Path):
        return Path(model), None
    folder = tempfile.TemporaryDirectory(prefix="onnxq-model-")
    path = Path(folder.name) / "model.onnx"
    try:
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    except (ValueError, EncodeError) as e:
        raise ModelError(f"the model in memory is too large to write ({e}); give its path") from e
    return path, folder


def read(model: ModelLike) -> tuple[onnx.ModelProto, ModelFile]:
    """The model, large weights left in their files (see `stored`), and what file it is of.

    Raises ModelError for a file that is missing, is not ONNX, is truncated, lacks its data, names
    data that is not its own, or changes while it is read.
    """
    path, keep = placed(model)
    known = identity_of(path) if path.is_file() else None
    content = _content(path)
    proto = _parsed(path, content)
    names = tuple(external_files(proto)) if _names_files(content) else ()
    files = files_beside(path, proto) if names else []
    before = [identity_of(file) for file in files]
    _locate(path, proto)
    sha = hashlib.sha256(content)
    for file in files:
        with open(file, "rb") as data:
            while block := data.read(BLOCK):
                sha.update(block)
    seen = list(zip(files, before, strict=True))
    if known is not None:
        seen.append((path, known))
    for file, identity in seen:
        _check(file, identity)
    size = len(content) + sum(identity[-1] for identity in before)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    made_by = " ".join(filter(None, (proto.producer_name, proto.producer_version)))
    digest = sha.hexdigest()
    return proto, ModelFile(path, digest, size, names, metadata, made_by, tuple(seen), keep)


def _check(file: Path, identity: Identity) -> None:
    """Raises ModelError where a file is not what it was."""
    try:
        same = identity_of(file) == identity
    except OSError:
        same = False
    if not same:
        raise ModelError(f"'{file}' changed while it was in use; start again")


def parse(path: Path) -> onnx.ModelProto:
    """The model alone, as `read` reads it; its weights are not hashed."""
    content = _content(path)
    model = _parsed(path, content)
    if _names_files(content):
        files_beside(path, model)
    _locate(path, model)
    return model


def mentions(path: Path, *texts: str) -> bool:
    """Whether any of the texts stands somewhere in a file: what none of them is in need not be
    parsed to look for them."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(text.encode()) >= 0 for text in texts)


def _names_files(content: bytes) -> bool:
    """Whether a model may name external data: the key of a file's name is in it."""
    return EXTERNAL.encode() in content


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"'{path}' is a folder; name the .onnx file in it")
    if not path.is_file():
        raise ModelError(f"no model at '{path}'; check the path")
    return path.read_bytes()


def _parsed(path: Path, content: bytes) -> onnx.ModelProto:
    """The model without its external data."""
    form = registry.get_format_from_file_extension(path.suffix) or "protobuf"
    try:
        model = onnx.load_model_from_string(content, form)
    except Exception as e:  # each of the forms that onnx reads raises errors of its own
        raise ModelError(f"'{path}' is not an ONNX model or is cut short; export it again") from e
    if not model.opset_import or not model.HasField("graph") or not model.graph.output:
        raise ModelError(f"'{path}' is not an ONNX model or is cut short; export it again")
    if broken := broken_name(model) or broken_tensor(model) or broken_attribute(model):
        raise ModelError(f"'{path}' is damaged: {broken}; export it again")
    return model


def _locate(path: Path, model: onnx.ModelProto) -> None:
    """Find the external data, and read what is small of it."""
    try:
        located.locate(model, path.parent)
    except (ValueError, OSError, onnx.checker.ValidationError) as e:
        raise ModelError(f"the external data of '{path}' cannot be read: {e}") from e
    if broken := broken_tensor(model):  # again, with what came from files
        raise ModelError(f"'{path}' is damaged: {broken}; export it again")
    if not any(opset.domain == "" for opset in model.opset_import):
        for opset in model.opset_import:
            if opset.domain == "ai.onnx":  # the other name of the domain, which most tools miss
                opset.domain = ""
