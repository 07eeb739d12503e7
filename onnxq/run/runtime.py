"""ONNX Runtime: what runs a model. `providers` alone imports it, inside a function.

pip install "onnxq[cpu]"   or   "onnxq[gpu]"
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from onnxq.arrays import Array
from onnxq.errors import ModelError, RuntimeMissing
from onnxq.model import located, mapped
from onnxq.run.fp4_models import has_fp4, in_floats
from onnxq.run.optimizers import disabled
from onnxq.run.providers import NOTHING, QUIET, device_of, onnxruntime
from onnxq.run.providers import available as available
from onnxq.run.providers import providers as providers
from onnxq.run.providers import resolved as resolved
from onnxq.run.providers import version as version
from onnxq.run.python_ops import bridged, check, python_ops
from onnxq.run.refusals import explained, first_line

Session: TypeAlias = Any  # onnxruntime.InferenceSession

EXTENSIONS = ("ai.onnx.contrib", "com.microsoft.extensions")  # domains of onnxruntime-extensions
IN_MEMORY = 8 << 20  # bytes of weights: those of larger models go to ONNX Runtime in a file
ROOT = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class Runtime:
    """Where models run: a provider, and the library or Python module of the custom ops they use.

    plain: sessions as ONNX Runtime comes, with optimizers that change what a model computes.
    """

    provider: str = "cpu"
    ort_library: Path | None = None
    ort_extension: str | None = None
    plain: bool = False


@dataclass(frozen=True)
class OnDisk:
    """A model file, and what there is to know of it before ONNX Runtime opens it: whoever has read
    it says so, and it is not parsed again. domains: of its ops. without: optimizers left out. fp4:
    whether it holds FP4.
    """

    path: Path
    domains: frozenset[str]
    without: tuple[str, ...]
    fp4: bool = False

    @staticmethod
    def of(path: Path, model: onnx.ModelProto) -> OnDisk:
        """The file at `path`, which holds `model`; its weights do not matter."""
        domains = frozenset(opset.domain for opset in model.opset_import)
        return OnDisk(path, domains, tuple(disabled(model)), has_fp4(model.graph))


Model: TypeAlias = onnx.ModelProto | Path | OnDisk


def session(
    model: Model, runtime: Runtime | None = None, threads: int = 0, optimize: str = "all"
) -> Session:
    """An `onnxruntime.InferenceSession` of a model in memory or in a file.

    `threads` is the number of threads within one run (0: one a core). One thread gives results
    that are bit-identical from run to run, and `session.run` may be called from several Python
    threads at once. `optimize` is "all", "extended", "basic", "none", or "float": all, but Q/DQ is
    computed as such, with no integer kernels, and constants behind it are folded. Raises
    ModelError for a model that ONNX Runtime cannot run, RuntimeMissing where the provider is not
    to be had.
    """
    runtime = runtime or Runtime()
    model = _runnable(model, runtime)
    options = session_options(model, runtime, threads, optimize)
    without = [] if runtime.plain else _without(model)
    with contextlib.ExitStack() as folders:
        source = _source(model, folders, options)
        del model  # the session has weights of its own
        return _opened_session(source, options, runtime, without)


def optimized(
    model: onnx.ModelProto, runtime: Runtime | None = None
) -> tuple[onnx.ModelProto, Session]:
    """The model as ONNX Runtime runs it: fused, weights laid out for this machine's CPU; and the
    session that runs it so, on one thread."""
    runtime = runtime or Runtime()
    ready = _runnable(model, runtime)
    options = session_options(ready, runtime, 1, "all")
    with contextlib.ExitStack() as folders:
        path = _folder(folders) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        found = _opened_session(_source(ready, folders, options), options, runtime)
        return onnx.load(path), found


def _opened_session(
    source: str | bytes, options: Any, runtime: Runtime, without: Sequence[str] | None = None
) -> Session:
    """A session that runs where it was asked to, without the optimizers `without`."""
    names = providers(runtime.provider)
    try:
        # It would print, and go on on the CPU, where the GPU fails: now or in a run.
        found = onnxruntime().InferenceSession(
            source, options, providers=names, disabled_optimizers=without, enable_fallback=0
        )
        found.disable_fallback()
    except Exception as e:  # ONNX Runtime's exceptions share no base class
        raise explained(e) from e
    if len(names) > 1 and device_of(found) == "cpu":
        raise RuntimeMissing(
            "ONNX Runtime did not take this model to the GPU and does not say why; free the GPU's "
            "memory, or use the provider cpu"
        )
    return found


def _without(model: onnx.ModelProto | OnDisk) -> list[str]:
    return list(model.without) if isinstance(model, OnDisk) else disabled(model)


def session_options(
    model: onnx.ModelProto | OnDisk, runtime: Runtime, threads: int, optimize: str
) -> Any:
    """ONNX Runtime's session options: quiet, `threads` threads, custom ops registered."""
    ort = onnxruntime()
    levels = ort.GraphOptimizationLevel
    options = ort.SessionOptions()
    options.log_severity_level = QUIET
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = {
        "none": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
        "float": levels.ORT_ENABLE_ALL,
    }[optimize]
    if not runtime.plain:
        # Behind a quantized weight alone, a MatMul's kernel would round its float input to INT8 too
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if optimize == "float":
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if resolved(runtime.provider) == "cuda":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if threads == 1 and _one_arena():
        # Many small sessions, shared by threads: an arena each would keep the peak of each, and
        # a pattern would allocate for a whole run at once. Measured: 1.6 x less memory in all.
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        options.enable_mem_pattern = False
    for library in _libraries(model, runtime):
        try:
            options.register_custom_ops_library(str(library))
        except Exception as e:
            raise ModelError(
                f"the custom op library '{library}' cannot be loaded: {first_line(e)}"
            ) from e
    return options


@functools.cache
def _one_arena() -> bool:
    """Whether the single-thread sessions of this process share one CPU arena; sets it up."""
    ort = onnxruntime()
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    as_requested = 1  # grow by what is asked for, where the default doubles
    try:
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg(0, as_requested, -1, -1))
    except Exception as e:  # the program that imports us may have registered one: good as well
        return "already" in str(e)
    return True


def _runnable(model: Model, runtime: Runtime) -> onnx.ModelProto | OnDisk:
    """The model with floats in place of FP4, and its custom nodes handed to the ops of the Python
    module, if there is one."""
    if isinstance(model, Path):
        model = OnDisk.of(model, onnx.load(model, load_external_data=False))
    if model.fp4 if isinstance(model, OnDisk) else has_fp4(model.graph):
        model = in_floats(model.path if isinstance(model, OnDisk) else model, runtime.plain)
    if runtime.ort_extension is not None:
        proto = onnx.load(model.path) if isinstance(model, OnDisk) else model
        return bridged(proto, python_ops(runtime.ort_extension))
    return model


def _libraries(model: onnx.ModelProto | OnDisk, runtime: Runtime) -> list[Path]:
    libraries = [runtime.ort_library] if runtime.ort_library else []
    if isinstance(model, OnDisk):
        domains = model.domains
    else:
        domains = frozenset(opset.domain for opset in model.opset_import)
    if not domains.isdisjoint(EXTENSIONS):
        try:
            from onnxruntime_extensions import get_library_path
        except ImportError as e:
            raise RuntimeMissing(
                "this model uses onnxruntime-extensions; pip install onnxruntime-extensions"
            ) from e
        libraries.append(Path(get_library_path()))
    return libraries


def _folder(folders: contextlib.ExitStack) -> Path:
    """An empty folder for as long as `folders` is open."""
    return Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="onnxq-")))


def _source(
    model: onnx.ModelProto | OnDisk, folders: contextlib.ExitStack, options: Any
) -> str | bytes:
    """What ONNX Runtime opens: a path, or the bytes of a model, without its weights where they are
    many: those go to a file, which ONNX Runtime maps. Most are small, and need no folder.
    """
    if isinstance(model, OnDisk):
        return str(model.path)
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights < IN_MEMORY and not any(True for _ in located.in_files(model)):
        return model.SerializeToString()
    content, root = located.serialize(model, _folder(folders) / "model.data")
    options.add_session_config_entry(ROOT, root)
    return content


def run(session: Session, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
    """The named outputs of one run; raises ModelError where ONNX Runtime fails."""
    try:
        values: list[Array] = session.run(outputs, feeds)
    except Exception as e:
        check()
        raise explained(e) from e
    check()
    return values


def bind(session: Session, arrays: Mapping[str, Array], outputs: Sequence[str]) -> Any:
    """An IO binding of `session` that reads and writes `arrays` in place.

    `arrays` holds inputs and outputs by name, contiguous; the caller keeps them alive. An input
    that it lacks is bound later with `bind_input`.
    """
    binding = session.io_binding()
    for name in outputs:
        x = arrays[name]
        binding.bind_output(name, "cpu", 0, x.dtype, x.shape, x.ctypes.data)
    for name in (i.name for i in session.get_inputs()):
        if name in arrays:
            bind_input(binding, name, arrays[name])
    return binding


def bind_input(binding: Any, name: str, x: Array) -> None:
    """Let `binding` read the contiguous array `x`, in place of what it read before."""
    binding.bind_input(name, "cpu", 0, x.dtype, x.shape, x.ctypes.data)


def run_bound(session: Session, binding: Any) -> None:
    """Run a session on bound arrays; raises ModelError where ONNX Runtime fails."""
    try:
        session.run_with_iobinding(binding)
    except Exception as e:
        check()
        raise explained(e) from e
    check()


@functools.cache
def _shrinking() -> tuple[Session, Any]:
    """A session that does nothing, and the run options with which a run shrinks the one arena."""
    shrink = onnxruntime().RunOptions()
    shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return session(onnx.parser.parse_model(NOTHING), threads=1), shrink


def release_free_memory() -> None:
    """Give free memory back to the system: what ONNX Runtime's arena keeps for the next run, what
    building sessions leaves behind in pieces that the C library keeps, and pages of mapped weights.
    """
    mapped.release()
    if _one_arena.cache_info().currsize and _one_arena():
        nothing, shrink = _shrinking()
        nothing.run(None, {}, shrink)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
