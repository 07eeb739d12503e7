"""What a run of `quantize` has to say beside its figures: a line each, for the summary and the
manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnxq.calib.stats import Stats
from onnxq.judge.accuracy import Agreement, Agreements
from onnxq.judge.plain import cannot, told
from onnxq.model.graph import Graph
from onnxq.passes.insert_qdq import Codes, Weight
from onnxq.passes.lost_weights import lost_weights
from onnxq.passes.rounded import long_sums
from onnxq.pipeline.config import Config
from onnxq.pipeline.method_choice import NO_CHOICE, is_auto
from onnxq.pipeline.opened import Opened
from onnxq.pipeline.source import Source
from onnxq.pipeline.steps import insert_options
from onnxq.plan import Plan
from onnxq.targets.attribute_ops import note as attribute_note
from onnxq.targets.fused import fused_note


@dataclass(frozen=True)
class Compared:
    """How the models were compared.

    plain: agreement in plain sessions. unrounded: that of the parts where TensorRT has another.
    trouble: why a plain session cannot run the model, else empty. model: what was run.
    """

    plain: Agreements
    unrounded: Mapping[str, Agreement]
    trouble: str
    model: Graph


def of_model(
    source: Source, plan: Plan, config: Config, codes: Mapping[Weight, Codes]
) -> Iterator[str]:
    """What of the model is lost, or stays float unasked."""
    for node, weight in lost_weights(source.graph, plan, insert_options(config, codes)).items():
        yield f"'{node}' multiplies by zeros: every code of its weight '{weight}' is 0"
    yield from fused_note(source.graph)
    if config.high_precision == "bf16":
        yield "compared before the rest became BF16, which ONNX Runtime cannot run"
    if plan.attribute_ops:
        yield from attribute_note(source.graph, plan)


def of_comparison(found: Compared, undecided: bool) -> Iterator[str]:
    """What the figures leave out or cannot say. undecided: no method could be chosen by them."""
    yield from found.plain.along_lines()
    yield from found.plain.notes()
    for name in long_sums(found.model):
        yield f"'{name}' adds up more products than INT32 may hold; leave it float with --skip"
    if found.trouble:
        yield cannot(found.trouble)
    else:
        yield from told(found.plain.judged, found.unrounded)
    if undecided:
        yield NO_CHOICE


def took_part(opened: Opened, plan: Plan, stats_from: Stats | None, config: Config) -> str:
    """What part the samples that are compared on took in what is compared; empty for none."""
    rest, check = opened.rest, opened.check
    if stats_from is None and not opened.apart:
        return "of the calibration"
    if is_auto(config):
        return "that chose the method"
    if stats_from is not None and (not opened.apart or stats_from.data != rest.digest()):
        return "that the statistics may hold" if stats_from.samples else "that the ranges may be of"
    if plan.chosen_on and plan.chosen_on in (check.digest(), opened.dataset.digest()):
        return "that chose the plan"
    return ""
