"""What a lint rule is: a name, a severity, a reason with its source, a fix, and a function.

A rule's function gets a `Context` and yields the places it finds, `(node, message)`. The tables of
rules are the RULES of the modules `rules_*`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from onnxq.model.graph import Node
from onnxq.trt.context import Context

Severity = Literal["refused", "inaccurate", "slow", "info"]
SEVERITIES: tuple[Severity, ...] = ("refused", "inaccurate", "slow", "info")
Place = tuple[Node | None, str]  # None where the finding is about the whole model
SEEN = "seen in TensorRT-RTX 1.7"
DOCS = "TensorRT documentation, Working with Quantized Types"
ONNX = "ONNX operator specification"


@dataclass(frozen=True)
class Rule:
    """One thing that TensorRT refuses, runs slowly or computes differently.

    severity: what TensorRT makes of it, by its documentation. rtx: what TensorRT-RTX was seen to
    make of it, where that differs. says: regular expressions of TensorRT's own error messages that
    this rule explains.
    """

    name: str
    severity: Severity
    why: str
    source: str
    fix: str
    find: Callable[[Context], Iterable[Place]]
    rtx: Severity | None = None
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A place where a rule is broken; `node` is "" where it is about the whole model."""

    rule: str
    severity: Severity
    node: str
    op: str
    message: str
    why: str
    source: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.op} '{self.node}': " if self.node else ""
        return f"{where}{self.message} [{self.rule}]; {self.fix}"
