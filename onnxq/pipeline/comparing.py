"""The step that compares a quantized graph with the user's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.judge.accuracy import Agreement, Agreements, Reference
from onnxq.judge.parts import slices_of
from onnxq.judge.plain import APART, differences, plainly
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph, within
from onnxq.pipeline import original
from onnxq.pipeline.config import Config
from onnxq.pipeline.runtimes import runtime_of
from onnxq.pipeline.source import Source
from onnxq.progress import Progress, counted, counting, silent, stage, told
from onnxq.run.over import loaded
from onnxq.run.runtime import Runtime
from onnxq.run.side_by_side import side_by_side

QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", fp4.DYNAMIC)
SECONDS = 1.0  # for timing both models
FEW, NEAR = 2, APART / 4  # samples, and dB: what they show to be alike is not looked at further


@dataclass
class FloatSide:
    """What the file of a source gives for the samples that are compared on, run once.

    Sessions of every kind compute the same where the file has no Q/DQ of its own.
    """

    source: Source
    check: Dataset
    _known: dict[bool, Reference] = field(default_factory=dict, repr=False)

    def at(self, runtime: Runtime, tick: Callable[[], None] = lambda: None) -> Reference:
        """Its outputs in sessions of `runtime`; `tick` is called after each sample, run or known.

        The quantized model is made of the source, so outputs of other lengths, whatever they are
        declared, are left out: their lengths come from values.
        """
        kind = runtime.plain and self._has_codes()
        if kind not in self._known:
            model = original.reference(self.source)
            self._known[kind] = Reference.of(
                model, self.check, tick, runtime, declared={}, parts=slices_of(self.source.graph)
            )
        else:
            for _ in self._known[kind].outputs:
                tick()
        return self._known[kind]

    def outputs(self) -> Sequence[Mapping[str, Array]]:
        """What it gave for the samples, if it was run."""
        return next((known.outputs for known in self._known.values()), ())

    def _has_codes(self) -> bool:
        nodes = within(self.source.graph.nodes)
        return self.source.original.quantized or any(n.op in QUANTIZED for n in nodes)


@told
def compare(
    source: Source,
    quantized: Graph,
    check: Dataset,
    config: Config,
    progress: Progress = silent,
    runtime: Runtime | None = None,
) -> Agreements:
    """How near the outputs of a model are before and after, through ONNX Runtime: in plain sessions
    where those can run it, or in those of `runtime`.

    The float side is the file of `source`. Raises ModelError as `original.hold` does.
    """
    side = FloatSide(source, check)
    if runtime is not None:
        return _running(side, quantized, runtime)[-1]
    original.hold(source, check, runtime_of(config))
    return compared(side, quantized, config)[0][-1]


def compared(side: FloatSide, quantized: Graph, config: Config) -> tuple[list[Agreements], str]:
    """Agreement in plain sessions over the first sample, the first two and so on; why those cannot
    run the model, else empty."""
    return plainly(lambda where: _running(side, quantized, where), runtime_of(config))


def agreement(
    side: FloatSide, quantized: Graph, config: Config
) -> tuple[Agreements, Mapping[str, Agreement], str]:
    """Agreement in plain sessions; that of the parts where TensorRT, which rounds no biases, has
    another; why a plain session cannot run the model."""
    plain, trouble = compared(side, quantized, config)
    found = plain[-1]
    if trouble or not found or config.placement.target != "tensorrt":
        return found, {}, trouble
    unrounded = found
    runtime = runtime_of(config)
    tick = counting("as TensorRT computes it", len(side.check))
    running = side.at(runtime).running(lambda: graphs.to_proto(quantized), tick, runtime)
    for k, unrounded in enumerate(running):
        if k + 1 == FEW and not any(differences(plain[k].judged, unrounded.judged, NEAR)):
            return found, {}, ""
    parts = unrounded.judged
    apart = {name: parts[name] for name, *_ in differences(found.judged, parts)}
    return found, apart, ""


def timing(
    side: FloatSide, quantized: Graph, config: Config, trouble: str
) -> dict[str, float] | None:
    """Milliseconds that a sample takes in float and quantized, here and now, and their ratio; None
    but for ONNX Runtime's own models, or where a plain session cannot run this one."""
    if config.placement.target != "onnxruntime" or trouble or not len(side.check):
        return None
    where = replace(runtime_of(config), plain=True)
    models = original.reference(side.source), graphs.to_proto(quantized)
    pair = [loaded(model, where) for model in models]
    counting("timing", 1)
    before, after = side_by_side(pair, [side.check.sample(0)], limit=SECONDS)
    found = {"float_ms": 1e3 * before, "quantized_ms": 1e3 * after, "ratio": after / before}
    return {name: round(value, 4) for name, value in found.items()}


def _running(side: FloatSide, quantized: Graph, runtime: Runtime) -> list[Agreements]:
    with stage("compare"):
        tick = counted(2 * len(side.check))
        reference = side.at(runtime, tick)
        return list(reference.running(lambda: graphs.to_proto(quantized), tick, runtime))
