"""Compare a float model with a quantized one (or an engine), sample by sample, in constant memory.

Polygraphy runs the models and judges each sample by its `simple` comparison where a tolerance is
given; SQNR, PSNR, cosine and the rest are sums over samples (see `accuracy`). Per tensor: every
float tensor that both graphs name is compared too, in graph order, to find where they drift apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxq import graph as graphs
from onnxq.accuracy import Agreement, Array, agreement
from onnxq.calib.data import Dataset
from onnxq.errors import ModelError, OnnxqError, RuntimeMissing
from onnxq.graph import Graph
from onnxq.runtime import Runtime, session

ERROR_STATS = ("mean", "max", "median", "elemwise")


@dataclass(frozen=True)
class Thresholds:
    """What decides the exit code; None is not asked for.

    tolerance: absolute and relative, judged by Polygraphy per sample on `error_stat`. atol: largest
    mean absolute error of an output. min_sqnr: dB. min_cosine. min_agreement: least share of rows
    whose top class (last axis) agrees.
    """

    tolerance: float | None = None
    error_stat: str = "mean"
    atol: float | None = None
    min_sqnr: float | None = None
    min_cosine: float | None = None
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        if self.error_stat not in ERROR_STATS:
            raise OnnxqError(f"unknown error stat '{self.error_stat}'; choose {ERROR_STATS}")


@dataclass
class Tensor:
    """The comparison of one tensor so far."""

    name: str
    sums: Agreement = field(default_factory=Agreement)
    peak: float = 0.0
    top_agree: int = 0
    top_total: int = 0
    within: int = 0
    samples: int = 0

    def add(self, ref: Array, test: Array) -> None:
        """Add one sample."""
        self.sums = self.sums + agreement(ref, test)
        self.peak = max(self.peak, float(np.abs(ref).max(initial=0.0)))
        if ref.ndim and ref.shape[-1] > 1:
            agree = ref.argmax(-1) == test.argmax(-1)
            self.top_agree += int(agree.sum())
            self.top_total += agree.size
        self.samples += 1

    @property
    def psnr_db(self) -> float:
        """Peak SNR in dB: 10 log10(peak^2 / mean squared error); inf where they are equal."""
        if not self.sums.noise:
            return float("inf")
        mse = self.sums.noise / self.sums.count
        return 10 * float(np.log10(self.peak**2 / mse)) if self.peak else float("-inf")

    @property
    def top1(self) -> float:
        """Share of rows whose largest value is at the same place."""
        return self.top_agree / self.top_total if self.top_total else 1.0

    def as_dict(self) -> dict[str, float]:
        """The figures of a report."""
        return {
            **self.sums.as_dict(),
            "psnr_db": round(self.psnr_db, 3),
            "top1_agreement": round(self.top1, 5),
            "samples_within_tolerance": self.within,
        }


@dataclass(frozen=True)
class Comparison:
    """outputs: by name. tensors: inner tensors in graph order. failures: why the answer is no."""

    samples: int
    outputs: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    failures: tuple[str, ...]

    @property
    def first_offender(self) -> str | None:
        """The first inner tensor, in graph order, that falls most below the one before it."""
        values = [(n, min(t.sums.sqnr_db, 100.0)) for n, t in self.tensors.items() if t.samples]
        drops = [(b[1] - a[1], b[0]) for a, b in pairwise(values)]
        return min(drops)[1] if drops else None

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {
            "samples": self.samples,
            "outputs": {n: t.as_dict() for n, t in self.outputs.items()},
            "tensors": {n: t.as_dict() for n, t in self.tensors.items()},
            "first_offender": self.first_offender,
            "failures": list(self.failures),
        }


def compare(
    reference: Path,
    quantized: Path,
    dataset: Dataset,
    thresholds: Thresholds,
    *,
    per_tensor: bool = False,
    runtime: Runtime | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Comparison:
    """Compare two model files over a dataset; `quantized` may be an engine (.engine, .plan, .trt).

    Raises ModelError for models whose outputs differ in name or shape, RuntimeMissing where an
    engine cannot run.
    """
    ref_graph, models, inner = _models(reference, quantized, per_tensor)
    outputs = {t.name: Tensor(t.name) for t in ref_graph.outputs}
    tensors = {name: Tensor(name) for name in inner}
    with ExitStack() as stack, _quiet():
        ref_run, test_run = (stack.enter_context(_runner(m, runtime)) for m in models)
        for i in range(len(dataset)):
            feed = dataset.sample(i)
            ref, test = ref_run(feed), test_run(feed)
            for name, tensor in {**outputs, **tensors}.items():
                _add(tensor, ref, test, name)
            for name in outputs:
                outputs[name].within += _within(name, ref, test, thresholds)
            progress("compare", i + 1, len(dataset))
    floats = {n: t for n, t in outputs.items() if t.samples}
    failures = tuple(_failures(floats, len(dataset), thresholds))
    return Comparison(len(dataset), floats, tensors, failures)


def _models(
    reference: Path, quantized: Path, per_tensor: bool
) -> tuple[Graph, tuple[onnx.ModelProto | Path, onnx.ModelProto | Path], list[str]]:
    ref = graphs.load(reference)
    if quantized.suffix in (".engine", ".plan", ".trt"):
        if per_tensor:
            raise OnnxqError(f"'{quantized}' is an engine, which has no inner tensors to compare; "
                             "compare the ONNX model it was built from")  # fmt: skip
        return ref, (graphs.to_proto(ref), quantized), []
    test = graphs.load(quantized)
    if missing := [t.name for t in ref.outputs if t.name not in {o.name for o in test.outputs}]:
        raise ModelError(f"'{quantized}' has no output '{missing[0]}', which '{reference}' has; "
                         "compare a model with its own quantized form")  # fmt: skip
    inner = _common(ref, test) if per_tensor else []
    for graph in (ref, test):
        tensors = graph.tensors()
        graph.outputs += [tensors[name] for name in inner]
    return ref, (graphs.to_proto(ref), graphs.to_proto(test)), inner


def _common(ref: Graph, test: Graph) -> list[str]:
    """Float tensors that nodes of both graphs write, in the order of the quantized graph."""
    skip = {t.name for t in ref.outputs}
    known = {t.name for n in ref.nodes for t in n.outputs} - skip
    named = (t for n in test.nodes for t in n.outputs)
    return [t.name for t in named if t.name in known and t.dtype in (None, np.float32, np.float16)]


@contextmanager
def _runner(
    model: onnx.ModelProto | Path, runtime: Runtime | None
) -> Iterator[Callable[[Mapping[str, Any]], dict[str, Any]]]:
    if isinstance(model, Path):
        runner = _engine_runner(model)
    else:
        from polygraphy.backend.onnxrt import OnnxrtRunner

        runner = OnnxrtRunner(session(model, runtime))

    def infer(feed: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return dict(runner.infer(dict(feed), check_inputs=False))
        except Exception as e:  # neither ONNX Runtime's nor TensorRT's share a base class
            what = f"'{model}'" if isinstance(model, Path) else f"model '{model.graph.name}'"
            raise ModelError(f"{what} cannot be run: {' '.join(str(e).split())[:300]}") from e

    with runner:
        yield infer


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


def _add(tensor: Tensor, ref: Mapping[str, Any], test: Mapping[str, Any], name: str) -> None:
    a, b = np.asarray(ref[name]), np.asarray(test[name])
    if not np.issubdtype(a.dtype, np.floating):
        return
    if a.shape != b.shape:
        raise ModelError(f"tensor '{name}' has shape {a.shape} in the float model and {b.shape} in "
                         "the other; they are not the same model")  # fmt: skip
    tensor.add(a, b)


def _within(
    name: str, ref: Mapping[str, Any], test: Mapping[str, Any], thresholds: Thresholds
) -> bool:
    """Whether one sample of one output passes Polygraphy's `simple` comparison."""
    if thresholds.tolerance is None or not np.issubdtype(ref[name].dtype, np.floating):
        return True
    from polygraphy import comparator

    simple = getattr(comparator, "SimpleCompareFunc", None) or comparator.CompareFunc.simple
    judge = simple(
        atol=thresholds.tolerance,
        rtol=thresholds.tolerance,
        check_error_stat=thresholds.error_stat,
    )
    one, two = (comparator.IterationResult({name: side[name]}) for side in (ref, test))
    return bool(judge(one, two)[name])


def _failures(outputs: Mapping[str, Tensor], samples: int, asked: Thresholds) -> Iterator[str]:
    for name, t in outputs.items():
        if asked.tolerance is not None and t.within < samples:
            yield (f"'{name}': {samples - t.within} of {samples} samples beyond tolerance "
                   f"{asked.tolerance:g} ({asked.error_stat})")  # fmt: skip
        if asked.atol is not None and t.sums.mean_abs > asked.atol:
            yield f"'{name}': mean absolute error {t.sums.mean_abs:.4g} is over {asked.atol:g}"
        if asked.min_sqnr is not None and t.sums.sqnr_db < asked.min_sqnr:
            yield f"'{name}': SQNR {t.sums.sqnr_db:.2f} dB is under {asked.min_sqnr:g} dB"
        if asked.min_cosine is not None and t.sums.cosine < asked.min_cosine:
            yield f"'{name}': cosine {t.sums.cosine:.5f} is under {asked.min_cosine:g}"
        if asked.min_agreement is not None and t.top1 < asked.min_agreement:
            yield f"'{name}': top-1 agreement {t.top1:.4f} is under {asked.min_agreement:g}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Polygraphy logs every figure it looks at; our table says it once."""
    from polygraphy.logger import G_LOGGER

    before = G_LOGGER.module_severity.get()
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    try:
        yield
    finally:
        G_LOGGER.module_severity = before
        logging.getLogger(__name__).debug("comparison done")
