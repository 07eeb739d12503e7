"""What runs a model or an engine, sample by sample."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from onnxq.arrays import Sample
from onnxq.errors import CannotRun, ModelError, RuntimeMissing
from onnxq.run.over import loaded
from onnxq.run.runtime import Runtime

ENGINES = (".engine", ".plan", ".trt")


@contextmanager
def runner(
    model: onnx.ModelProto | Path, runtime: Runtime | None
) -> Iterator[Callable[[Sample], dict[str, Any]]]:
    """Runs a model, or an engine by its file name, on a sample; raises CannotRun where it fails."""
    if not isinstance(model, Path) or model.suffix not in ENGINES:
        run = loaded(model, runtime)
        yield lambda sample: _run(run, sample, model)
        return
    with _engine_runner(model) as engine:
        yield lambda sample: _run(
            lambda feed: dict(engine.infer(dict(feed), check_inputs=False)), sample, model
        )


def _run(
    run: Callable[[Sample], dict[str, Any]], sample: Sample, model: onnx.ModelProto | Path
) -> dict[str, Any]:
    try:
        return run(sample)
    except Exception as e:  # neither ONNX Runtime's nor TensorRT's share a base class
        what = f"'{model}'" if isinstance(model, Path) else f"model '{model.graph.name}'"
        raise CannotRun(f"{what} cannot be run: {' '.join(str(e).split())[:300]}") from e


def _engine_runner(path: Path) -> Any:
    from onnxq.trt.backend import has_gpu

    if not path.is_file():
        raise ModelError(f"no engine at '{path}'; 'onnxq build' makes one")
    if not has_gpu():
        raise RuntimeMissing(f"'{path}' is an engine and there is no GPU to run it on; compare the "
                             "ONNX model it was built from")  # fmt: skip
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    return TrtRunner(EngineFromBytes(BytesFromPath(str(path))))


@contextmanager
def quiet() -> Iterator[None]:
    """Polygraphy logs every figure it looks at, and what it raises; we say each once."""
    from polygraphy.logger import G_LOGGER

    before = G_LOGGER.module_severity.get()
    G_LOGGER.module_severity = G_LOGGER.CRITICAL + 1  # what it raises, it logs as critical
    try:
        yield
    finally:
        G_LOGGER.module_severity = before
        logging.getLogger(__name__).debug("comparison done")
