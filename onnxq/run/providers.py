"""Where ONNX Runtime runs: on the CPU, or on a GPU through its CUDA provider.

ONNX Runtime without the libraries of CUDA, or without a GPU, goes on on the CPU and says so among
its logs. Here "cuda" is CUDA or an error; "cuda,cpu" is the first of them that works.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from onnxq.errors import OnnxqError, RuntimeMissing

Session: TypeAlias = Any  # onnxruntime.InferenceSession
Provider: TypeAlias = str | tuple[str, dict[str, str]]  # as ONNX Runtime takes them

CHOICES = ("cpu", "cuda", "cuda,cpu")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# The CPU's numbers within rounding, the same in every run: TF32 keeps 10 bits of a mantissa, and
# the kernel of a Conv is chosen by its shape, where timing it would choose another one another day.
# Sessions are many, and the memory of each would double as it grows.
CUDA_OPTIONS = {
    "use_tf32": "0",
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}
NO_TF32 = "NVIDIA_TF32_OVERRIDE"  # cuDNN's own graphs heed this alone, as they are loaded
# The least model: building it shows what a provider lacks.
NOTHING = (
    '<ir_version: 8, opset_import: ["": 13]> g () => (float y) {y = Constant<value_float = 0.0>()}'
)
QUIET, USUAL = 4, 2  # log severities: fatal, warning

log = logging.getLogger(__name__)


def onnxruntime() -> Any:
    """The module; raises RuntimeMissing where it is not installed."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would write files to the home folder
    try:
        import onnxruntime
    except ImportError as e:
        raise RuntimeMissing(
            'running a model needs ONNX Runtime; pip install "onnxq[cpu]" or "onnxq[gpu]"'
        ) from e
    return onnxruntime


def available() -> list[str]:
    """The providers this ONNX Runtime has; raises RuntimeMissing where there is none."""
    return list(onnxruntime().get_available_providers())


def version() -> str:
    """The version of ONNX Runtime; raises RuntimeMissing where there is none."""
    return str(onnxruntime().__version__)


def resolved(name: str) -> str:
    """ "cpu" or "cuda": where models run under the provider `name`.

    Raises OnnxqError for an unknown name, RuntimeMissing where "cuda" is asked for and does not
    work here; "cuda,cpu" then is the CPU, with a warning.
    """
    if name not in CHOICES:
        raise OnnxqError(
            f"unknown provider '{name}'; choose one of cpu, cuda or cuda,cpu (the CPU where CUDA "
            "does not work)"
        )
    if name == "cpu":
        return name
    trouble = trouble_with_cuda()
    if not trouble:
        return "cuda"
    if name == "cuda":
        raise RuntimeMissing(f"{trouble}, or use the provider cpu")
    _warn(f"{trouble}; running on the CPU instead")
    return "cpu"


def providers(name: str) -> list[Provider]:
    """What ONNX Runtime is to try for each node, the CPU always last; raises as `resolved`."""
    return [(CUDA, dict(CUDA_OPTIONS)), CPU] if resolved(name) == "cuda" else [CPU]


def device_of(session: Session) -> str:
    """ "cuda" where `session` runs on a GPU, else "cpu": the device that its outputs are on."""
    return "cuda" if CUDA in session.get_providers() else "cpu"


def nodes_on_cpu(sessions: Iterable[Session]) -> Counter[str]:
    """How many nodes of `sessions` run on the CPU, by op; empty where ONNX Runtime cannot say."""
    found: Counter[str] = Counter()
    for session in sessions:
        try:
            parts = session.get_provider_graph_assignment_info()
        except Exception:  # an older ONNX Runtime, or a session that keeps no record
            continue
        found += Counter(n.op_type for p in parts if p.ep_name == CPU for n in p.get_nodes())
    return found


@functools.cache
def trouble_with_cuda() -> str:
    """Why nothing runs on a GPU here and how to mend it; empty where it does."""
    ort = onnxruntime()
    if CUDA not in ort.get_available_providers():
        return (
            f'this ONNX Runtime has no {CUDA}; pip install "onnxq[gpu]" (and uninstall '
            "onnxruntime, which hides onnxruntime-gpu)"
        )
    os.environ.setdefault(NO_TF32, "0")
    ort.set_default_logger_severity(QUIET)
    try:
        if hasattr(ort, "preload_dlls"):  # from 1.21: the libraries that pip installed
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what is not there
                ort.preload_dlls()
        reason = "" if device_of(_least_session(ort)) == "cuda" else _unloaded(ort)
    except Exception as e:  # ONNX Runtime's exceptions share no base class
        reason = str(e).strip().split("\n", 1)[0][:200]
    finally:
        ort.set_default_logger_severity(USUAL)
    if not reason:
        return ""
    return (
        f"ONNX Runtime {version()} cannot use a GPU: {reason}; see with nvidia-smi whether GPU and "
        'driver (libcuda) are there; pip install "onnxruntime-gpu[cuda,cudnn]" brings all else'
    )


def _least_session(ort: Any) -> Session:
    options = ort.SessionOptions()
    options.log_severity_level = QUIET
    model = onnx.parser.parse_model(NOTHING).SerializeToString()
    return ort.InferenceSession(
        model, options, providers=[(CUDA, dict(CUDA_OPTIONS)), CPU], enable_fallback=0
    )


def _unloaded(ort: Any) -> str:
    """Why the library of the CUDA provider does not load, in the system's words."""
    folder = Path(ort.__file__).parent / "capi"
    shared, cuda = (folder / f"libonnxruntime_providers_{n}.so" for n in ("shared", "cuda"))
    if shared.is_file() and cuda.is_file():
        try:
            ctypes.CDLL(str(shared), ctypes.RTLD_GLOBAL)
            ctypes.CDLL(str(cuda))
        except OSError as e:
            return str(e)[:200]
    return "its CUDA provider does not start"


@functools.cache
def _warn(text: str) -> None:
    """Log `text`, once in this process."""
    log.warning("%s", text)
