"""Lint findings for people (80 columns) and for machines (JSON, SARIF)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from onnxq import __version__
from onnxq.escaping import printable
from onnxq.table import Table
from onnxq.terminal import line
from onnxq.trt.rule import Finding, Rule

SHOWN = 4  # places of one rule
STYLES = {"refused": "bold red", "inaccurate": "bold magenta", "slow": "yellow", "info": "dim"}
LEVELS = {"refused": "error", "inaccurate": "warning", "slow": "warning", "info": "note"}
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def findings_text(findings: Sequence[Finding], fixed: dict[str, int]) -> RenderableType:
    """A table of what was found, then each rule with its places, its reason and its fix."""
    done = [Text(f"fixed {rule}: {count} places") for rule, count in fixed.items()]
    if not findings:
        return Group(*done, Text("nothing to complain about"))
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.rule, []).append(finding)
    rows = [(found[0].severity, rule, len(found)) for rule, found in groups.items()]
    parts: list[RenderableType] = [*done, Table("Lint", ("severity", "rule", "places"), rows)]
    for found in groups.values():
        parts.append(_group(found))
    return Group(*parts)


def _group(found: list[Finding]) -> RenderableType:
    first = found[0]
    head = Text.assemble((first.severity, STYLES[first.severity]), " ", (first.rule, "bold"))
    lines = [line(f"{_where(f)}{f.message}") for f in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(Text(f"and {len(found) - SHOWN} more (--json lists all)"))
    lines += [Text(f"why: {first.why} ({first.source})"), line(f"fix: {first.fix}"), Text()]
    return Group(head, *(Padding(one, (0, 0, 0, 2)) for one in lines))


def _where(finding: Finding) -> str:
    return f"{finding.op} '{finding.node}': " if finding.node else ""


def findings_json(findings: Iterable[Finding], fixed: dict[str, int]) -> dict[str, Any]:
    """Findings as JSON data."""
    return {"findings": [asdict(f) for f in findings], "fixed": fixed}


def findings_sarif(
    findings: Iterable[Finding], rules: Sequence[Rule], path: Path
) -> dict[str, Any]:
    """Findings as a SARIF 2.1.0 log with one run, of the model at `path` as it was given."""
    uri = quote(os.fsencode(path.as_posix()))
    index = {rule.name: i for i, rule in enumerate(rules)}
    results = [
        {
            "ruleId": f.rule,
            "ruleIndex": index[f.rule],
            "level": LEVELS[f.severity],
            "message": {"text": _message(f"{_where(f)}{f.message}. {f.fix}")},
            "locations": [_location(f, uri)],
        }
        for f in findings
    ]
    driver = {"name": "onnxq", "version": __version__, "rules": [_sarif_rule(r) for r in rules]}
    run = {"tool": {"driver": driver}, "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _message(text: str) -> str:
    """Text in which no name makes a link: SARIF has `[text](target)` in messages."""
    text = printable(text)
    return re.sub(r"[\\\[\]]", r"\\\g<0>", text) if "](" in text else text


def _location(finding: Finding, uri: str) -> dict[str, Any]:
    where: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri}}}
    if finding.node:
        where["logicalLocations"] = [{"name": finding.node, "kind": "node"}]
    return where


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.name,
        "shortDescription": {"text": rule.why},
        "help": {"text": f"{rule.fix} ({rule.source})"},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }
