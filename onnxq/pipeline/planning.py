"""The step that plans: where Q/DQ goes, and what is refused before anything runs."""

from __future__ import annotations

import math

from onnxq.errors import ModelError, PlanError
from onnxq.model.graph import WEIGHTED, constant_of, within
from onnxq.passes.fold_ifs import deciding_inputs
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source
from onnxq.plan import Plan
from onnxq.progress import stage
from onnxq.targets import placement
from onnxq.targets.bodies import IN_BRANCH


@stage("plan")
def plan(source: Source, config: Config | None = None) -> Plan:
    """Where and how to quantize a prepared graph; raises PlanError as `targets` does."""
    config = config or Config()
    result = placement.plan(source.graph, config.placement, source.sha256)
    refuse_empty(result, source)
    return result


def refuse_empty(plan: Plan, source: Source) -> None:
    """Raises PlanError for a plan that quantizes nothing."""
    if not plan.edges:
        reasons = sorted(set(plan.skipped.values())) or ["it has no Conv, Gemm or MatMul"]
        said = "; ".join(reasons[:3])
        if IN_BRANCH in plan.skipped.values() and (inputs := deciding_inputs(source.graph)):
            said += f"; --fix {inputs[0]}=VALUE takes the branch that this input chooses"
        raise PlanError(f"nothing to quantize in '{source.path}': {said}")


def refuse_unsound(plan: Plan, source: Source) -> None:
    """Raises ModelError for NaN in a weight or bias, and for infinities in what is quantized."""
    for node in within(source.graph.nodes):
        specs = plan.by_node.get(node.name, {})
        for i, tensor in enumerate(node.inputs) if specs or node.op in WEIGHTED else ():
            values = constant_of(tensor)
            if values is None or values.dtype.kind != "f" or not values.size:
                continue
            ends = float(values.min()), float(values.max())  # of NaN: NaN
            bad = next((x for x in ends if math.isnan(x) or (i in specs and math.isinf(x))), None)
            if bad is not None:
                raise ModelError(
                    f"input {i} of {node.op} '{node.name}', the constant '{tensor.name}', holds "
                    f"{'NaN' if math.isnan(bad) else bad}; export the model from sound weights"
                )
