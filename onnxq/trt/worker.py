"""The process that builds: `python -P -m onnxq.trt.worker REQUEST`, started by `onnxq.trt.build`.

REQUEST is one JSON object; every event is one line of JSON on stdout. The ONNX parser is called
directly, because Polygraphy drops the node that an error names; profiles, timing cache and the
build itself go through Polygraphy.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxq.trt.backend import find_backend

Request = Mapping[str, Any]
NO_GPU = r"cudaError \d+|timing cache"  # said on the way to a good engine where there is no GPU


def main() -> int:
    """Build what the request in argv[1] asks for; always 0, the events say what came of it."""
    request = json.loads(sys.argv[1])
    out = Path(request["out"])
    threading.Thread(target=_end_with_parent, args=(out,), daemon=True).start()
    trt = find_backend(request["backend"]).module
    try:
        _build(trt, request)
    except OSError as e:
        if e.errno is None:  # of a library that cannot be loaded
            _emit("print", text=str(e))
        else:
            _emit("unwritten", errno=e.errno)
    except Exception as e:  # Polygraphy's and TensorRT's: shown where nothing better was said
        _emit("print", text=f"{type(e).__name__}: {str(e).strip()}")
    return 0


def _end_with_parent(out: Path) -> None:
    """End this process with the one that started it, however that ends, and leave no file."""
    while os.read(0, 1):  # it holds the other end of stdin and writes nothing
        pass
    out.unlink(missing_ok=True)
    os._exit(1)


def _emit(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def _build(trt: Any, request: Request) -> None:
    from polygraphy.backend.trt import engine_bytes_from_network, load_plugins
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    logger = _logger(trt, without_gpu=request["arch"] != "gpu")
    load_plugins(plugins=list(request["plugins"]))
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    trt.init_libnvinfer_plugins(logger, "")
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request["model"]):
        for i in range(parser.num_errors):
            _emit("problem", **_problem(parser.get_error(i)))
        return
    if not _shapes_fit(network, request):
        return
    started = time.perf_counter()
    cache = _timing_cache(request)
    config = _config(trt, request)(builder, network)
    engine = engine_bytes_from_network((builder, network, parser), config, save_timing_cache=cache)
    seconds = time.perf_counter() - started
    with open(request["out"], "wb") as file:
        file.write(engine)
    _emit("built", seconds=seconds, size=Path(request["out"]).stat().st_size)


def _network_flags(trt: Any) -> int:
    """Strongly typed, and explicit batch, where they are a choice: TensorRT 11 has nothing else."""
    flags = trt.NetworkDefinitionCreationFlag
    wanted = ["STRONGLY_TYPED"]
    if int(trt.__version__.split(".")[0]) < 10 and "rtx" not in trt.__name__:
        wanted.append("EXPLICIT_BATCH")
    return sum(1 << int(getattr(flags, name)) for name in wanted if hasattr(flags, name))


def _problem(error: Any) -> dict[str, str]:
    def read(name: str) -> str:  # node_name and node_operator came with TensorRT 10
        return str(getattr(error, name, str)() or "")

    return {"message": read("desc"), "node": read("node_name"), "op": read("node_operator")}


def _shapes_fit(network: Any, request: Request) -> bool:
    inputs = {t.name: t for t in (network.get_input(i) for i in range(network.num_inputs))}
    given = {row["name"]: row for row in request["shapes"]}
    for name, row in given.items():
        if name not in inputs:
            names = ", ".join(f"'{n}'" for n in inputs)
            _emit("error", text=f"no input '{name}' to give a shape to; the model has {names}")
            return False
        dims = tuple(inputs[name].shape)
        for shape in (row["min"], row["opt"], row["max"]):
            if len(shape) != len(dims) or any(d not in (-1, s) for d, s in zip(dims, shape)):  # noqa: B905
                _emit("error", text=f"shape {tuple(shape)} does not fit input '{name}' {dims}")
                return False
    missing = [t for t in inputs.values() if -1 in tuple(t.shape) and t.name not in given]
    for tensor in missing:
        _emit("dynamic", name=tensor.name, dims=list(tensor.shape))
    return not missing


def _timing_cache(request: Request) -> str | None:
    """Where the timing cache lies; none without a GPU, where nothing is timed."""
    return (
        str(request["timing_cache"])
        if request["timing_cache"] and request["arch"] == "gpu"
        else None
    )


def _config(trt: Any, request: Request) -> Any:
    """Polygraphy's loader of a builder configuration."""
    from polygraphy.backend.trt import CreateConfig, Profile

    profile = Profile()
    for row in request["shapes"]:
        profile.add(row["name"], min=row["min"], opt=row["opt"], max=row["max"])
    workspace = request["workspace"]
    pool = {trt.MemoryPoolType.WORKSPACE: workspace << 20} if workspace else None
    cache = _timing_cache(request)
    common = {
        "profiles": [profile] if request["shapes"] else [],
        "memory_pool_limits": pool,
        "load_timing_cache": cache if cache and Path(cache).is_file() else None,
        "progress_monitor": _monitor(trt),
    }
    if request["backend"] != "tensorrt-rtx":
        return CreateConfig(tf32=True, **common)
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    digits = re.sub(r"\D", "", request["arch"])
    if not digits:
        return CreateConfigRTX(use_gpu=True, **common)
    return CreateConfigRTX(compute_capabilities=[(int(digits[:-1]), int(digits[-1]))], **common)


def _logger(trt: Any, without_gpu: bool) -> Any:
    """A TensorRT logger; building without a GPU, its complaints about the missing driver go."""
    levels = {trt.ILogger.INTERNAL_ERROR: "error", trt.ILogger.ERROR: "error"}
    levels[trt.ILogger.WARNING] = "warning"

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in levels and not (without_gpu and re.search(NO_GPU, text)):
                _emit("log", severity=levels[severity], text=text)

    return Logger()


def _monitor(trt: Any) -> Any:
    """A progress monitor that reports the outermost phase; None before TensorRT 8.6."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self.steps[phase_name] = num_steps
                _emit("progress", stage=phase_name, done=0, total=num_steps)

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.steps:
                steps = self.steps.pop(phase_name)
                _emit("progress", stage=phase_name, done=steps, total=steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                total = self.steps[phase_name]
                _emit("progress", stage=phase_name, done=min(step + 1, total), total=total)
            return True

    return Monitor()


if __name__ == "__main__":
    sys.exit(main())
