"""One model for many devices: what TensorRT-RTX makes of it for each architecture, without a GPU.

Each architecture gets two builds: the model as it is, and with FP16 around its Q/DQ. Engines
are read and thrown away. Architectures that TensorRT-RTX does not
build for are named as such; for those `trtexec` on the device can tell, by its layer info.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onnxq.errors import ModelError, OnnxqError
from onnxq.layers.info import load_layers
from onnxq.layers.model import check_same, model_of
from onnxq.layers.reading import read
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.passes.apply import apply, tidy
from onnxq.passes.raise_opset import raise_opset_to
from onnxq.passes.to_half import HalfOptions, to_half
from onnxq.progress import counting
from onnxq.spec import HALF_OPSET
from onnxq.trt.build import BuildOptions, build
from onnxq.trt.engine import load_engine
from onnxq.trt.verdict import judge

Form = Literal["as it is", "FP16 around"]
FORMS: tuple[Form, ...] = ("as it is", "FP16 around")
ALL = "all"
KNOWN = {  # that TensorRT-RTX 1.x builds for -> whose they are
    "sm75": "Turing (T4)", "sm80": "Ampere (A100)", "sm86": "Ampere (RTX 30)",
    "sm89": "Ada (RTX 40, L4)", "sm120": "Blackwell (RTX 50)", "sm121": "Blackwell (GB10)",
}  # fmt: skip
OTHERS = {  # that TensorRT alone builds for, on the device
    "sm87": "Orin", "sm90": "Hopper", "sm100": "Blackwell (B200)", "sm101": "Thor before CUDA 13",
    "sm103": "Blackwell (B300)", "sm110": "Thor",
}  # fmt: skip
AT_ONCE = 2  # builds side by side


@dataclass(frozen=True)
class Cell:
    """A model on an architecture.

    state: "builds", "refused", "unknown" where nothing here can tell, or "not made". meant,
    covered: nodes with Q/DQ, and those that run as meant. moved: bytes; None where a shape is
    dynamic, or it is not told. why: the line that refuses it, or why nobody knows.
    """

    arch: str
    device: str
    form: str
    state: Literal["builds", "refused", "unknown", "not made"]
    meant: int | None = None
    covered: int | None = None
    kernels: int | None = None
    moved: int | None = None
    seconds: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Fleet:
    """The matrix: a cell an architecture and form."""

    model: str
    cells: tuple[Cell, ...]

    @property
    def ok(self) -> bool:
        """Whether no requested build was refused."""
        return not any(cell.state == "refused" for cell in self.cells)

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {"model": self.model, "ok": self.ok, "cells": [asdict(c) for c in self.cells]}


def architectures(text: str) -> tuple[str, ...]:
    """The architectures that `--arch` names: all that are known, or some with commas between.

    Raises OnnxqError for a word that is none.
    """
    if text.strip() == ALL:
        return tuple(KNOWN)
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in words:
        if not re.fullmatch(r"sm\d{2,3}", word):
            raise OnnxqError(f"unknown architecture '{word}'; write it as sm89, several with "
                             "commas between, or all")  # fmt: skip
    if not words:
        raise OnnxqError("--arch names no architecture; write sm89, sm89,sm120 or all")
    return words


def fleet(
    model: Path, archs: Sequence[str], options: BuildOptions, told: Mapping[str, Path]
) -> Fleet:
    """What becomes of a model on each architecture. told: layer infos of `trtexec` for those that
    nothing here can build for. Raises OnnxqError as `build`, and for a file that is no layer info.
    """
    graph, file = graphs.read(model)
    with tempfile.TemporaryDirectory(prefix="onnxq-fleet-") as folder:
        forms, why = _forms(model, graph, file.metadata, Path(folder))
        tasks = [(arch, form) for arch in archs if arch in KNOWN for form in forms]
        tick = counting("build", len(tasks)) if tasks else lambda: None
        with ThreadPoolExecutor(AT_ONCE, "fleet") as pool:
            jobs = [pool.submit(_cell, *forms[form], arch, form, options, Path(folder))
                    for arch, form in tasks]  # fmt: skip
            built = []
            for job in jobs:
                built.append(job.result())
                tick()
    unmade = [Cell(a, KNOWN[a], FORMS[1], "not made", why=why) for a in archs if a in KNOWN and why]
    others = [_elsewhere(a, graph, told.get(a)) for a in dict.fromkeys([*archs, *told])
              if a not in KNOWN]  # fmt: skip
    order = list(archs)
    cells = sorted([*built, *unmade], key=lambda c: (order.index(c.arch), c.form == FORMS[1]))
    return Fleet(model.name, (*cells, *others))


def _forms(
    model: Path, graph: Graph, metadata: Mapping[str, str], folder: Path
) -> tuple[dict[Form, tuple[Path, Graph]], str]:
    """The files to build with their graphs, and why there is none with FP16 around."""
    plain: dict[Form, tuple[Path, Graph]] = {FORMS[0]: (model, graph)}
    if any(t.dtype == np.float16 for node in graph.nodes for t in node.inputs):
        return plain, "the model has FP16 around its Q/DQ already"
    try:
        half = apply(graph, *([raise_opset_to(HALF_OPSET)] if graph.opset < HALF_OPSET else []))
        to_half(half, HalfOptions())
        tidy(half)
        path = folder / "half.onnx"
        graphs.save(half, path, metadata)
    except ModelError as e:
        return plain, str(e)
    return {**plain, FORMS[1]: (path, half)}, ""


def _cell(
    path: Path, graph: Graph, arch: str, form: str, options: BuildOptions, folder: Path
) -> Cell:
    engine = folder / f"{arch}-{form.replace(' ', '-')}.engine"
    result = build(path, engine, options=replace(options, arch=arch))
    device = KNOWN[arch]
    if result.engine is None:
        why = str(result.problems[0]) if result.problems else "TensorRT did not say why"
        return Cell(arch, device, form, "refused", seconds=result.seconds, why=why)
    found = judge(graph, load_engine(result.engine))
    result.engine.unlink()
    read_off = found.engine
    if not read_off.readable:
        return Cell(arch, device, form, "builds", seconds=result.seconds, why=read_off.reason)
    return Cell(
        arch, device, form, "builds", len(found.meant), found.covered, len(read_off.kernels),
        read_off.traffic, result.seconds,
    )  # fmt: skip


def _elsewhere(arch: str, graph: Graph, layers: Path | None) -> Cell:
    """An architecture that nothing here builds for, by what `trtexec` said on it."""
    device = OTHERS.get(arch, "")
    if layers is None:
        why = "TensorRT-RTX does not build for it; give trtexec's --exportLayerInfo as " \
              f"--layers {arch}=FILE"  # fmt: skip
        return Cell(arch, device, FORMS[0], "unknown", why=why)
    info, known = load_layers(layers), model_of(graph)
    check_same(info, known, "the model")
    found = read(info, None, known)
    covered = found.coverage()
    kernels = sum(t.layer.kind != "NoOp" for t in found.timed)
    return Cell(arch, device, "by trtexec", "builds", covered["meant"], covered["covered"], kernels)
