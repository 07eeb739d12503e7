"""Sessions whose tensors stay where they are computed: on a GPU, nothing comes back unasked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from onnxq.arrays import Array
from onnxq.run import providers
from onnxq.run import runtime as ort
from onnxq.run.segments import Segment

OrtValue: TypeAlias = Any  # onnxruntime.OrtValue: a tensor on some device
Live = dict[str, Array | OrtValue]
Step = Callable[[Live], Live]

SEGMENT_BYTES = 64 << 20  # observed output a segment: no cache to fit, and each run costs a wait


log = logging.getLogger(__name__)


def run_on(
    session: ort.Session,
    binding: Any,
    feeds: Mapping[str, Array | OrtValue],
    outputs: Mapping[str, str],
    device: str,
) -> Live:
    """Run with `feeds` beside what is bound; outputs stay on the device, by the names asked for."""
    for name, value in feeds.items():
        if isinstance(value, np.ndarray):
            binding.bind_cpu_input(name, value)
        else:
            binding.bind_ortvalue_input(name, value)
    for name in outputs.values():
        binding.bind_output(name, device, 0)
    binding.synchronize_inputs()
    ort.run_bound(session, binding)
    binding.synchronize_outputs()
    return dict(zip(outputs, binding.get_outputs(), strict=True))


def steps(segments: Iterable[tuple[Segment, ort.Session]]) -> list[Step]:
    """What a worker calls in turn on its live tensors; each returns what its segment wrote.

    What a segment writes stays on the device; arrays go there with each segment that reads them.
    """
    return [_step(segment, session) for segment, session in segments]


def _step(segment: Segment, session: ort.Session) -> Step:
    device = providers.device_of(session)
    outputs = {name: name for name in segment.outputs}

    def run(feeds: Live) -> Live:
        return run_on(session, session.io_binding(), feeds, outputs, device)

    return lambda live: segment.advance(live, run)


def log_nodes_on_cpu(sessions: Iterable[ort.Session]) -> None:
    """Say how many nodes of sessions for CUDA run on the CPU, if any and if it can be known."""
    if found := providers.nodes_on_cpu(sessions):
        ops = ", ".join(f"{count} {op}" for op, count in found.most_common())
        log.info("%d nodes run on the CPU, most for want of a CUDA kernel: %s", found.total(), ops)
