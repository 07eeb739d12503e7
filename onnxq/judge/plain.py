"""What a plain ONNX Runtime session gives, `InferenceSession(path)`: the figures that are printed,
stored and judged.

Its optimizers round float biases and weights of some nodes as it loads a Q/DQ model, and the inputs
of products with 4-bit weights; a few models they break. TensorRT does none of this, and what
chooses between ways to quantize looks at models without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from onnxq.errors import CannotRun
from onnxq.judge.accuracy import Agreement
from onnxq.run.fp4_models import NO_FP4
from onnxq.run.runtime import Runtime

T = TypeVar("T")
APART = 1.0  # dB from which on two figures are both told
CEILING = 100.0  # dB: beyond it nobody can tell two apart


def plainly(run: Callable[[Runtime], T], runtime: Runtime | None = None) -> tuple[T, str]:
    """What `run` gives with plain sessions, and "". Where ONNX Runtime as it comes cannot run the
    model: what it gives without the optimizers that do not know it, and why."""
    runtime = runtime or Runtime()
    try:
        return run(replace(runtime, plain=True)), ""
    except CannotRun as e:
        trouble = str(e)
    return run(replace(runtime, plain=False)), trouble


def cannot(trouble: str) -> str:
    """The line that says what was measured where a plain session cannot run the model."""
    if trouble.startswith(NO_FP4):
        return (
            f"a plain ONNX Runtime session cannot load a model with FP4 ({trouble}); the "
            "figures are of a float stand-in with the same numbers, see docs/schemes.md"
        )
    return (f"a plain ONNX Runtime session cannot run this model ({trouble}); it was run without "
            "the optimizers that do not know it, see docs/onnxruntime.md")  # fmt: skip


def differences(
    plain: Mapping[str, Agreement], unrounded: Mapping[str, Agreement], apart: float = APART
) -> Iterator[tuple[str, float, float]]:
    """Parts where a plain session's SQNR is not that of the model as written, with both in dB."""
    for name, a in plain.items():
        if name in unrounded:
            pair = [min(one.sqnr_db, CEILING) for one in (a, unrounded[name])]
            if abs(pair[0] - pair[1]) > apart:
                yield name, pair[0], pair[1]


def told(plain: Mapping[str, Agreement], unrounded: Mapping[str, Agreement]) -> Iterator[str]:
    """A line for the part where the two are furthest apart; nothing where they agree."""
    found = sorted(differences(plain, unrounded), key=lambda d: -abs(d[1] - d[2]))
    for name, given, meant in found[:1]:
        more = f", {len(found) - 1} more outputs in the manifest" if len(found) > 1 else ""
        yield (f"output '{name}' has {given:.2f} dB in a plain ONNX Runtime session, which rounds "
               "biases and inputs beside weights as it loads a model, and "
               f"{meant:.2f} dB as TensorRT computes it, without that{more}")  # fmt: skip
