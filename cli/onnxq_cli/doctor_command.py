"""`onnxq doctor`: versions, providers and what works here."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from onnxq.json_text import to_json
from onnxq_cli import streams
from onnxq_cli.fields import option
from onnxq_cli.sections import verb

PACKAGES = ("polygraphy", "tensorrt", "tensorrt-rtx")
EXTRAS = {  # what an extra is for -> the module it brings, the extra
    "onnxq search": ("scipy", "onnxq[search]"),
    "onnxq plot": ("matplotlib", "onnxq[plot]"),
    "--dask": ("distributed", "onnxq[dask]"),
}


@dataclass(frozen=True)
class Finding:
    """Whether something works here; note: with what, or what is missing and how to mend it."""

    works: bool
    note: str


@verb(
    "onnxq doctor",
)
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """Show versions, ONNX Runtime's providers, TensorRT, and what works here.

    What does not work is said with what to install.
    """
    from rich.text import Text

    from onnxq.pipeline import manifest
    from onnxq.report import text

    versions = dict(manifest.versions())
    versions |= {name: manifest.version_of(name) or "not installed" for name in PACKAGES}
    found = {name: check() for name, check in _checks().items()}
    if as_json:
        works = {name: asdict(finding) for name, finding in found.items()}
        streams.out(to_json({"versions": versions, "works": works}))
        return 0
    text.show(Text("Versions", style="bold"))
    text.show(text.pairs(versions.items()))
    text.show(Text("\nWhat works here", style="bold"))
    text.show(text.pairs((n, f"{'yes' if f.works else 'no'}: {f.note}") for n, f in found.items()))
    return 0


def _checks() -> Mapping[str, Callable[[], Finding]]:
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
