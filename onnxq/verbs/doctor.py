"""Versions, providers and what works on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PACKAGES = ("polygraphy", "tensorrt", "tensorrt-rtx")
EXTRAS = {  # what an extra is for -> the module it brings, the extra
    "onnxq search": ("highspy", "onnxq[search]"),
    "onnxq plot": ("matplotlib", "onnxq[plot]"),
    "--dask": ("distributed", "onnxq[dask]"),
}


@dataclass(frozen=True)
class Finding:
    """Whether something works here; note: with what, or what is missing and how to mend it."""

    works: bool
    note: str


def versions() -> dict[str, str]:
    """Versions of onnxq, of what it stands on, and of what it can use."""
    from onnxq.pipeline import manifest

    found = dict(manifest.versions())
    return found | {name: manifest.version_of(name) or "not installed" for name in PACKAGES}


def doctor() -> dict[str, Finding]:
    """What works here, and with what, or what to install."""
    return {name: check() for name, check in checks().items()}


def checks() -> Mapping[str, Callable[[], Finding]]:
    """What may work -> a function that finds out."""
    extras = {name: lambda extra=extra: _package(*extra) for name, extra in EXTRAS.items()}
    return {
        "running models": _runtime,
        "--provider cuda": _cuda,
        "fast counting": _compiled,
        "onnxq build": _tensorrt,
        **extras,
    }


def _runtime() -> Finding:
    from onnxq.errors import OnnxqError
    from onnxq.run import runtime

    try:
        return Finding(True, f"ONNX Runtime with {', '.join(runtime.available())}")
    except OnnxqError as e:
        return Finding(False, str(e))


def _cuda() -> Finding:
    from onnxq.errors import OnnxqError
    from onnxq.run import providers

    try:
        trouble = providers.trouble_with_cuda()
    except OnnxqError as e:
        trouble = str(e)
    return Finding(not trouble, trouble or "a session on CUDA opens")


def _compiled() -> Finding:
    from onnxq.calib.histogram import HAVE_COMPILED

    missing = "no compiled counting; the numbers are the same, calibration is slower"
    return Finding(HAVE_COMPILED, "compiled counting of histograms" if HAVE_COMPILED else missing)


def _tensorrt() -> Finding:
    """TensorRT needs a GPU to build; TensorRT-RTX builds for GPUs that are elsewhere."""
    from onnxq.errors import OnnxqError
    from onnxq.trt.backend import find_backend, has_gpu

    try:
        backend = find_backend()
    except OnnxqError as e:
        return Finding(False, str(e))
    gpu = has_gpu()
    if gpu:
        return Finding(True, f"{backend.name} {backend.version}, and a GPU to run engines on")
    if backend.is_rtx:
        return Finding(True, f"{backend.name} {backend.version}; no GPU here to run engines on")
    return Finding(False, f"{backend.name} {backend.version} needs a GPU, and none is here; "
                   'pip install "onnxq[rtx]" builds without one')  # fmt: skip


def _package(module: str, extra: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(False, f'{module} is not installed; pip install "{extra}"')
    return Finding(True, f"with {module}")
