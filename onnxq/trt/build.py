"""Build an engine: `python -m onnxq.trt.worker` does it in a process of its own.

TensorRT can bring its process down (a scale that the graph computes does), and a process of its
own lets Polygraphy choose between TensorRT and TensorRT-RTX, which it does once, when imported.
The child gets one line of JSON and writes one line an event: progress, and at last the outcome.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from onnxq.errors import ModelError, OnnxqError
from onnxq.files import refuse
from onnxq.model.external import files_beside
from onnxq.model.input_shapes import parse_shapes, remembered
from onnxq.option import option
from onnxq.progress import Progress, silent
from onnxq.trt.backend import MODULES, Backend, find_backend, has_gpu

ARCHITECTURE = "sm89"  # what TensorRT-RTX builds for on a machine without a GPU


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    arch: such as "sm89"; None is the GPU that is here, or sm89 without one. timing_cache: where
    there is a GPU to time kernels on. timeout: seconds.
    """

    backend: str | None = option(
        None, "Default: the one that is installed.", "Engine", choices=tuple(MODULES)
    )
    shapes: tuple[str, ...] = option(
        (), "Profile of a dynamic input, or NAME:SHAPE. Repeatable.", "Engine", "NAME:MIN:OPT:MAX"
    )
    arch: str | None = option(
        None,
        "TensorRT-RTX without a GPU: the GPU to build for; several with commas, or all, to try. "
        f"Default: {ARCHITECTURE}.",
        "Engine",
    )
    timing_cache: Path | None = option(
        None, "Read this file if it exists, and write it back.", "Engine", place="write"
    )
    workspace: int | None = option(None, "MiB that kernels may use.", "Engine", "MIB", least=1)
    plugins: tuple[Path, ...] = option(
        (), "Plugin library. Repeatable.", "Engine", flag="--plugin", place="read"
    )
    timeout: float | None = None


@dataclass(frozen=True)
class Problem:
    """Why a model was refused: TensorRT's message and, where it names one, the ONNX node."""

    message: str
    node: str = ""
    op: str = ""

    def __str__(self) -> str:
        return f"{self.op} '{self.node}': {self.message}" if self.node else self.message


@dataclass(frozen=True)
class BuildResult:
    """What came of a build. `engine` is None where TensorRT refused; `problems` says why.

    log: TensorRT's warnings and errors, in order, each once. seconds: building alone. shapes: of
    the profile, where it was taken from the data that the model was quantized with.
    """

    backend: str
    version: str
    arch: str
    engine: Path | None
    size: int = 0
    seconds: float = 0.0
    problems: tuple[Problem, ...] = ()
    log: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is an engine."""
        return self.engine is not None


def build(
    model: str | Path,
    out: str | Path,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Build the engine of an ONNX file (external data beside it) and write it to `out`.

    The network is strongly typed: precision is what the graph says. A model that TensorRT
    refuses, or that crashes it, gives a result with `problems`. Raises OnnxqError for what the
    user can mend first: no model, weights from elsewhere, no TensorRT, a wrong option, a dynamic
    input without a shape; OSError where the engine cannot be written.
    """
    options = options or BuildOptions()
    model, out = Path(model), Path(out)
    if not model.is_file():
        raise ModelError(f"no model at '{model}'; check the path")
    seen = _look_at(model)
    shapes = () if options.shapes else seen
    options = replace(options, shapes=options.shapes or seen)
    backend = find_backend(options.backend)
    arch = _architecture(backend, options.arch)
    refuse(out)
    # A name alone: only the child makes the file, and it sees to it where this process is killed.
    unfinished = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        request = _request(model, unfinished, backend, arch, options)
        events, ending = _run(request, backend, options.timeout, progress or silent)
        for event in events:
            if event["event"] == "unwritten":
                raise OSError(event["errno"], os.strerror(event["errno"]), str(out))
        result = replace(_result(events, ending, backend, arch), shapes=shapes)
        if result.engine is None:
            return result
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return replace(result, engine=out)


def _look_at(model: Path) -> tuple[str, ...]:
    """The profile that a model remembers of the data that it was quantized with. Raises ModelError
    for one whose weights are not its own; one that is no model at all is TensorRT's to refuse."""
    with contextlib.suppress(DecodeError, ValueError):
        read = onnx.load(model, load_external_data=False)
        files_beside(model, read)
        return remembered(read, model.with_name(f"{model.name}.manifest.json"))
    return ()


def _architecture(backend: Backend, asked: str | None) -> str:
    if asked is not None and not re.fullmatch(r"sm\d{2,3}", asked):
        raise OnnxqError(f"unknown architecture '{asked}'; write it as sm89")
    if not backend.is_rtx:
        if asked is not None:
            raise OnnxqError(
                "TensorRT builds for the GPU that is here; --arch needs --backend tensorrt-rtx"
            )
        return "gpu"
    return asked or ("gpu" if has_gpu() else ARCHITECTURE)


def _request(
    model: Path, out: Path, backend: Backend, arch: str, options: BuildOptions
) -> dict[str, Any]:
    for plugin in options.plugins:
        if not plugin.is_file():
            raise OnnxqError(f"no plugin library at '{plugin}'; check the path")
    return {
        "model": str(model.resolve()),
        "out": str(out.resolve()),
        "backend": backend.name,
        "arch": arch,
        "shapes": [asdict(row) for row in parse_shapes(options.shapes)],
        "timing_cache": str(options.timing_cache.resolve()) if options.timing_cache else None,
        "workspace": options.workspace,
        "plugins": [str(p.resolve()) for p in options.plugins],
    }


def _run(
    request: dict[str, Any], backend: Backend, timeout: float | None, progress: Progress
) -> tuple[list[dict[str, Any]], str]:
    """The events of the child, and how it ended: "" if by itself."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "POLYGRAPHY_USE_TENSORRT_RTX": "1" if backend.is_rtx else "0",
    }
    # -P: or Python would import from the current folder first
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "onnxq.trt.worker", json.dumps(request)],
        stdin=subprocess.PIPE,  # closed when this process ends, however it does
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        encoding="utf-8",
        errors="replace",
    )
    timer = threading.Timer(timeout or threading.TIMEOUT_MAX, child.kill)
    timer.daemon = True
    timer.start()
    try:
        events = list(_events(child.stdout or (), progress))
        code = child.wait()
    finally:
        expired = timeout is not None and not timer.is_alive()
        timer.cancel()
        child.kill()
        child.wait()
        if child.stdin is not None:
            child.stdin.close()
    if expired:
        return events, f"not built within {timeout:g} s; give it more time"
    return events, _ending(code)


def _ending(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        return f"TensorRT crashed (signal {-code}, {name})"
    return f"TensorRT's process ended with exit code {code}" if code else ""


def _events(lines: Iterable[str], progress: Progress) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.startswith('{"event"'):  # a library's print
            yield {"event": "print", "text": line.strip()}
            continue
        event = json.loads(line)
        if event["event"] == "progress":
            progress(event["stage"], event["done"], event["total"])
        else:
            yield event


def _result(events: list[dict[str, Any]], ending: str, backend: Backend, arch: str) -> BuildResult:
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        found.setdefault(event["event"], []).append(event)
    if "dynamic" in found:
        raise OnnxqError(_needs_shapes(found["dynamic"]))
    if "error" in found:
        raise OnnxqError(found["error"][0]["text"])
    result = BuildResult(
        backend.name,
        backend.version,
        arch,
        engine=None,
        problems=tuple(Problem(e["message"], e["node"], e["op"]) for e in found.get("problem", ())),
        log=tuple(dict.fromkeys(e["text"] for e in found.get("log", ()))),
    )
    if "built" in found and not ending:
        built = found["built"][0]
        return replace(result, engine=Path(), size=built["size"], seconds=built["seconds"])
    if result.problems:
        return result
    said = [e["text"] for e in found.get("log", ()) if e["severity"] == "error"]
    said = said or [e["text"] for e in found.get("print", ()) if e["text"]][-1:]
    messages = [ending, *said] if ending else said or ["TensorRT built nothing and did not say why"]
    return replace(result, problems=tuple(Problem(m) for m in dict.fromkeys(messages)))


def _needs_shapes(inputs: list[dict[str, Any]]) -> str:
    listed = ", ".join(f"'{e['name']}' {tuple(e['dims'])}" for e in inputs)
    return (f"these inputs are dynamic: {listed}; give --calib DATA to take the shapes it has, or "
            "--shapes name:min:opt:max for each")  # fmt: skip
