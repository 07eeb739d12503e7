"""How far a quantized model is from its float model: sums over samples, read at the end.

    SQNR   = 10 log10(sum(ref^2) / sum((ref - test)^2))   in dB
    cosine = sum(ref * test) / sqrt(sum(ref^2) * sum(test^2))

Sums are added sample by sample, so memory does not grow with the number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxq.errors import ModelError
from onnxq.numerics import decibels
from onnxq.runtime import Runtime, release_free_memory, run, session

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]


@dataclass(frozen=True)
class Agreement:
    """Sums over the values of one output; `+` adds samples up.

    mean_abs_worst: the mean absolute difference of the sample where it is largest.
    """

    count: int = 0
    ref_power: float = 0.0
    test_power: float = 0.0
    noise: float = 0.0
    dot: float = 0.0
    abs_sum: float = 0.0
    abs_max: float = 0.0
    mean_abs_worst: float = 0.0

    def __repr__(self) -> str:
        figures = f"SQNR {self.sqnr_db:.2f} dB, cosine {self.cosine:.5f}"
        return f"Agreement({figures}, max |diff| {self.abs_max:.4g}, {self.count} values)"

    def _repr_html_(self) -> str:
        from onnxq.report import notebook

        return notebook.agreement(self)

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.count + other.count,
            self.ref_power + other.ref_power,
            self.test_power + other.test_power,
            self.noise + other.noise,
            self.dot + other.dot,
            self.abs_sum + other.abs_sum,
            float(np.maximum(self.abs_max, other.abs_max)),  # unlike max(), keeps NaN
            float(np.maximum(self.mean_abs_worst, other.mean_abs_worst)),
        )

    @property
    def sqnr_db(self) -> float:
        """SQNR in dB; inf where the outputs are equal, -inf where the reference is all zero."""
        return decibels(self.ref_power, self.noise)

    @property
    def cosine(self) -> float:
        """Cosine similarity of all values; 1 where both are all zero."""
        norm = math.sqrt(self.ref_power) * math.sqrt(self.test_power)
        return self.dot / norm if norm else float(self.ref_power == self.test_power)

    @property
    def mean_abs(self) -> float:
        """Mean absolute difference."""
        return self.abs_sum / self.count if self.count else 0.0

    def as_dict(self) -> dict[str, float]:
        """The four figures, rounded for a report."""
        return {
            "sqnr_db": round(self.sqnr_db, 3),
            "cosine": round(self.cosine, 6),
            "max_abs": float(f"{self.abs_max:.6g}"),
            "mean_abs": float(f"{self.mean_abs:.6g}"),
        }


def agreement(ref: Array, test: Array) -> Agreement:
    """Agreement of one array with its reference.

    Every figure is NaN where a value is NaN or infinite. Raises ModelError for two shapes.
    """
    if ref.shape != test.shape:
        raise ModelError(f"shape {ref.shape} in one model and {test.shape} in the other; "
                         "compare a model with its own quantized form")  # fmt: skip
    r, t = ref.astype(np.float64).ravel(), test.astype(np.float64).ravel()
    if not (np.isfinite(r).all() and np.isfinite(t).all()):
        return Agreement(r.size, *[math.nan] * 7)
    gap = np.abs(r - t)
    return Agreement(
        r.size,
        float(r @ r),
        float(t @ t),
        float(gap @ gap),
        float(r @ t),
        float(gap.sum()),
        float(gap.max(initial=0.0)),
        float(gap.mean()) if gap.size else 0.0,
    )


Model = onnx.ModelProto | Path


def measure(
    reference: Model | Callable[[], Model],
    quantized: Model | Callable[[], Model],
    feeds: Iterable[Feed],
    tick: Callable[[], None] = lambda: None,
    runtime: Runtime | None = None,
) -> dict[str, Agreement]:
    """Agreement of every floating point output of two models, run through ONNX Runtime.

    The reference's outputs are held while the second model is loaded, one session at a time, so
    that memory stays near that of one model; pass few feeds. A model may be given as a function
    that makes it when its turn comes. Feeds are in the reference's types and are read twice.
    Raises ModelError for models that differ in the names or shapes of their outputs.
    """
    samples = list(feeds) if isinstance(feeds, Iterator) else feeds
    ref = list(outputs(reference, samples, tick, runtime))
    release_free_memory()
    total: dict[str, Agreement] = {}
    for a, b in zip(ref, outputs(quantized, samples, tick, runtime), strict=True):
        for name, value in a.items():
            if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.floating):
                continue
            if name not in b:
                raise ModelError(f"the second model has no output '{name}', only "
                                 f"{', '.join(map(repr, b))}")  # fmt: skip
            try:
                total[name] = total.get(name, Agreement()) + agreement(value, b[name])
            except ModelError as e:
                raise ModelError(f"output '{name}' has {e}") from e
    return total


def outputs(
    model: Model | Callable[[], Model],
    samples: Iterable[Feed],
    tick: Callable[[], None] = lambda: None,
    runtime: Runtime | None = None,
) -> Iterator[dict[str, Array]]:
    """The outputs of a model for each sample, by name; FP16 inputs take float32 samples."""
    loaded = session(model() if callable(model) else model, runtime)
    names = [o.name for o in loaded.get_outputs()]
    halves = {i.name for i in loaded.get_inputs() if i.type == "tensor(float16)"}
    for feed in samples:
        typed = {k: x.astype(np.float16) if k in halves else x for k, x in feed.items()}
        yield dict(zip(names, run(loaded, names, typed), strict=True))
        tick()
