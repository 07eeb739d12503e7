"""What TensorRT will refuse, run slowly or compute differently, found in the graph alone.

    rules (RULES, a table)  x  context (Q/DQ read out, constants computed, types)  ->  findings

No TensorRT is imported. How the rules' verdicts compare with real builds: docs/lint.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import get_args

from onnxq.errors import ModelError, OnnxqError
from onnxq.model.graph import Graph
from onnxq.passes.apply import check_with_onnx
from onnxq.passes.inline_functions import inline_functions
from onnxq.passes.name_axes import Shapes
from onnxq.progress import steps
from onnxq.trt import (
    rules_custom,
    rules_fp4,
    rules_lowbit,
    rules_numbers,
    rules_ops,
    rules_placement,
    rules_shape,
    rules_sums,
    rules_types,
    rules_weights,
)
from onnxq.trt.context import Context, context_of, label
from onnxq.trt.rule import SEVERITIES, Finding, Rule, Severity

RULES: tuple[Rule, ...] = (
    *rules_numbers.RULES,
    *rules_weights.RULES,
    *rules_sums.RULES,
    *rules_types.RULES,
    *rules_shape.RULES,
    *rules_lowbit.RULES,
    *rules_fp4.RULES,
    *rules_ops.RULES,
    *rules_custom.RULES,
    *rules_placement.RULES,
)
BACKENDS = ("tensorrt", "tensorrt-rtx")


def lint(
    graph: Graph,
    backend: str = "tensorrt",
    rules: tuple[Rule, ...] = RULES,
    samples: Iterable[Shapes] = (),
) -> tuple[Finding, ...]:
    """Every finding of `rules` in `graph`, the most severe first, then in the rules' order.

    backend: "tensorrt" judges by its documentation, "tensorrt-rtx" by what TensorRT-RTX was seen
    to do where that differs. samples: shapes of the inputs in samples of data, which tell axes
    apart. The graph is left alone. Raises OnnxqError for an unknown backend,
    ModelError for a graph that is so damaged that it cannot be read.
    """
    if backend not in BACKENDS:
        raise OnnxqError(f"unknown backend '{backend}'; choose one of {', '.join(BACKENDS)}")
    if graph.functions:
        graph = graph.copy()
        inline_functions(graph)
    try:
        ctx = context_of(graph, samples)
        each = steps("rules", rules, len(rules))
        found = [f for rule in each for f in _findings(rule, ctx, backend)]
    except (ValueError, TypeError, LookupError, AttributeError) as e:
        check_with_onnx(graph, "the model")  # says what is wrong, where it is the model
        raise ModelError(f"the graph '{graph.name}' cannot be read and may be damaged "
                         f"({type(e).__name__}: {e}); export the model again") from e  # fmt: skip
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))


def _findings(rule: Rule, ctx: Context, backend: str) -> list[Finding]:
    severity: Severity = rule.rtx or rule.severity if backend == "tensorrt-rtx" else rule.severity
    places = dict.fromkeys(
        ("" if node is None else label(node), "" if node is None else node.op, message)
        for node, message in rule.find(ctx)
    )
    return [
        Finding(rule.name, severity, name, op, message, rule.why, rule.source, rule.fix)
        for name, op, message in places
    ]


def at_least(findings: tuple[Finding, ...], severity: str) -> tuple[Finding, ...]:
    """The findings of `severity` or worse; raises OnnxqError for an unknown one."""
    if severity not in SEVERITIES:
        raise OnnxqError(f"unknown severity '{severity}'; choose {', '.join(get_args(Severity))}")
    worst = SEVERITIES[: SEVERITIES.index(severity) + 1]
    return tuple(f for f in findings if f.severity in worst)


def is_refused(findings: tuple[Finding, ...]) -> bool:
    """Whether something in the graph keeps an engine from being built."""
    return any(f.severity == "refused" for f in findings)


def explain(message: str, graph: Graph, node: str = "") -> Finding | None:
    """The finding that an error of TensorRT's parser or builder is about; None if no rule has it.

    `node` is the ONNX node that the error names, where it does; its own finding is preferred, then
    one at a node that the message mentions, then the first of the rule. An error that says nothing
    but the node is explained by whatever will be refused there.
    """
    rules = tuple(r for r in RULES if any(re.search(s, message) for s in r.says))
    found = lint(graph, rules=rules) if rules else ()
    named = [f for f in found if f.node and f.node == node]
    mentioned = [f for f in found if f.node and f.node in message]
    if not found and node:
        refused = [f for f in lint(graph) if f.severity == "refused"]
        mentioned = [f for f in refused if f.node == node or f"'{node}'" in f.message]
    return next(iter([*named, *mentioned, *found]), None)


def rules_table() -> str:
    """The rules as a Markdown table, as docs/lint.md shows them."""
    lines = ["| rule | severity | why | fix | source |", "|---|---|---|---|---|"]
    for r in RULES:
        severity = f"{r.severity} (RTX: {r.rtx})" if r.rtx else r.severity
        lines.append(f"| `{r.name}` | {severity} | {r.why} | {r.fix} | {r.source} |")
    return "\n".join(lines) + "\n"
