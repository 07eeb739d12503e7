"""The plan: where and how, and for every node left alone the reason.

A `Plan` is a value: made by `targets`, read, edited and diffed by people as `plan.yaml`, toggled by
sensitivity analysis with `only` and `without`, and turned into Q/DQ nodes by `passes.insert_qdq`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from onnxq.errors import PlanError
from onnxq.files import write_text
from onnxq.saved import FileForm
from onnxq.schemes import BOTH
from onnxq.spec import Edge, QuantSpec
from onnxq.table import Table, page
from onnxq.yaml_text import from_yaml

FORM = FileForm(
    "onnxq.plan", 1, PlanError,
    absent="no plan at '{path}'; 'onnxq plan MODEL -o plan.yaml' makes one",
    other="'{path}' is not a plan this version reads: {found}",
    model="the plan was made for model {own}, this one is {this}; run 'onnxq plan' on this model",
)  # fmt: skip
KEYS = ("kind", "version", "model", "target", "quantized", "float", "same_values", "tied")


@dataclass(frozen=True)
class Plan:
    """Where to quantize and how.

    model: SHA-256 of the model file the plan was made for.
    target: the rule table that decided ("tensorrt").
    edges: every quantized node input with its spec.
    rules: for every node with a quantized input, the rule that decided.
    skipped: for every weighted or requested node left float, the reason.
    source: tensor -> the tensor that holds the same values (through pass-through ops); a tensor
        that is not listed is its own source. One range is observed per source.
    tied: groups of source tensors that share one range.
    attribute_ops: op types whose nodes carry their ranges as attributes instead of Q/DQ.
    chosen_on: digest of the samples that a search or a recipe chose it by; empty for none.
    """

    model: str
    target: str
    edges: Mapping[Edge, QuantSpec]
    rules: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)
    tied: tuple[tuple[str, ...], ...] = ()
    attribute_ops: tuple[str, ...] = ()
    chosen_on: str = field(default="", compare=False)

    def __repr__(self) -> str:
        kinds = Counter(map(self.precision, self.nodes)).most_common()
        said = ", ".join(f"{count} {kind}" for kind, count in kinds) or "none"
        return (
            f"Plan(target '{self.target}', {len(self.by_node)} nodes quantized ({said}), "
            f"{len(self.skipped)} float, model {self.model[:12]})"
        )

    def _repr_html_(self) -> str:
        counts = f"{len(self.nodes)} nodes quantized, {len(self.skipped)} float"
        return page(f"Plan for {self.target}: {counts}", *self.tables())

    def tables(self) -> list[Table]:
        """What is quantized how by which rule; what stays float and why, if anything does."""
        kinds = Counter((self.precision(n), self.rules.get(n, "")) for n in self.nodes)
        rows = [(what, rule, count) for (what, rule), count in kinds.most_common()]
        tables = [Table("Quantized", ("precision", "rule", "nodes"), rows, names=2)]
        if self.skipped:
            reasons = Counter(self.skipped.values()).most_common()
            tables.append(Table("Float", ("float because", "nodes"), reasons))
        return tables

    @cached_property
    def by_node(self) -> Mapping[str, Mapping[int, QuantSpec]]:
        """Node with a quantized input -> input -> its spec, in the plan's order."""
        found: dict[str, dict[int, QuantSpec]] = {}
        for edge, spec in self.edges.items():
            found.setdefault(edge.node, {})[edge.input] = spec
        return found

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes with a quantized input, in the plan's order."""
        return list(self.by_node)

    def precision(self, node: str) -> str:
        """The types of a node's quantized inputs as people write them: `INT8`, `INT8 x INT4`,
        `INT4 weights`; `float` for a node that is left alone."""
        types = [spec.row.label for spec in self.by_node.get(node, {}).values()]
        if not types:
            return "float"
        alone = len(types) == 1 and self.rules.get(node, "").startswith("weighted")
        return " x ".join(dict.fromkeys(types)) + (" weights" if alone else "")

    def without(self, *nodes: str, reason: str = "left float by request") -> Plan:
        """This plan with `nodes` left float."""
        gone = self._known(nodes)
        return replace(
            self,
            edges={e: s for e, s in self.edges.items() if e.node not in gone},
            rules={n: r for n, r in self.rules.items() if n not in gone},
            skipped={**self.skipped, **{n: reason for n in nodes}},
        )

    def only(self, *nodes: str) -> Plan:
        """This plan with everything but `nodes` left float."""
        keep = self._known(nodes)
        return self.without(*(n for n in self.nodes if n not in keep), reason="not selected")

    def _known(self, nodes: Iterable[str]) -> set[str]:
        chosen = set(nodes)
        if unknown := sorted(chosen - self.by_node.keys()):
            raise PlanError(
                f"the plan quantizes no node '{unknown[0]}'; it has {len(self.by_node)} "
                f"nodes, e.g. '{next(iter(self.by_node), '-')}'"
            )
        return chosen

    def save(self, path: str | Path) -> None:
        """Write `plan.yaml`: a mapping per node, made to be read, edited and diffed."""
        write_text(Path(path), self.to_yaml())

    def to_yaml(self) -> str:
        """The text of `plan.yaml`."""
        document: dict[str, Any] = {
            **FORM.head(),
            "model": self.model,
            "target": self.target,
            "quantized": {
                node: {
                    "rule": self.rules.get(node, ""),
                    "inputs": {i: str(spec) for i, spec in specs.items()},
                }
                for node, specs in self.by_node.items()
            },
            "float": dict(self.skipped),
            "same_values": dict(self.source),
            "tied": [list(group) for group in self.tied],
        }
        if self.attribute_ops:
            document["attribute_ops"] = list(self.attribute_ops)
        if self.chosen_on:
            document["chosen_on"] = self.chosen_on
        text = _written(document, allow_unicode=True)
        if all(map(str.isprintable, text.split("\n"))):
            return text
        return _written(document, allow_unicode=False)  # no line break, no mark in a name as it is

    @staticmethod
    def load(path: str | Path) -> Plan:
        """Read `plan.yaml`; raises PlanError for a file that is not a plan."""
        path = Path(path)
        FORM.check_there(path)
        try:
            document = from_yaml(path.read_text("utf-8"))
        except ValueError as e:
            raise PlanError(f"'{path}' is not a plan: {e}") from e
        if not isinstance(document, dict):
            raise PlanError(f"'{path}' is not a plan; 'onnxq plan MODEL -o plan.yaml' makes one")
        FORM.check(document, path)
        try:
            return _from_document(document)
        except KeyError as e:
            raise PlanError(f"'{path}' is not a whole plan: it has no {e}") from e
        except (PlanError, AttributeError, TypeError, ValueError) as e:
            raise PlanError(f"'{path}' is not a plan that can be read: {e}") from e

    def check_model(self, model: str) -> None:
        """Raises PlanError unless the plan was made for the model with this hash."""
        FORM.check_model(self.model, model)


def _from_document(document: Mapping[str, Any]) -> Plan:
    _refuse_unknown(document, (*KEYS, "attribute_ops", "chosen_on"), "the plan")
    target = _text(document["target"], "'target'")
    if target not in BOTH:
        raise PlanError(f"unknown target '{target}'; choose one of {', '.join(BOTH)}")
    quantized = _mapping(document["quantized"], "'quantized'")
    skipped = _texts(document.get("float"), "'float'")
    if twice := sorted(quantized.keys() & skipped.keys()):
        raise PlanError(f"node '{twice[0]}' is under 'quantized' and under 'float'; leave one")
    edges: dict[Edge, QuantSpec] = {}
    for node, entry in quantized.items():
        edges |= _edges_of(node, entry)
    return Plan(
        model=_text(document["model"], "'model'"),
        target=target,
        edges=edges,
        rules={n: _text(e.get("rule") or "", f"the rule of '{n}'") for n, e in quantized.items()},
        skipped=skipped,
        source=_texts(document.get("same_values"), "'same_values'"),
        tied=tuple(tuple(_list(group, "a group of 'tied'")) for group in _groups(document)),
        attribute_ops=tuple(_list(document.get("attribute_ops"), "'attribute_ops'")),
        chosen_on=_text(document.get("chosen_on") or "", "'chosen_on'"),
    )


def _refuse_unknown(entry: Mapping[Any, Any], known: tuple[str, ...], what: str) -> None:
    if unknown := [key for key in entry if key not in known]:
        raise PlanError(f"{what} has '{unknown[0]}', which is none of {', '.join(known)}")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise PlanError(f"{what} is {value!r}, not text; quote a name that YAML reads otherwise")
    return value


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict | None):
        raise PlanError(f"{what} is {type(value).__name__}, not a mapping")
    for name in value or {}:
        _text(name, f"a name under {what}")
    return value or {}


def _texts(value: Any, what: str) -> dict[str, str]:
    found = _mapping(value, what)
    return {name: _text(text, f"'{name}' under {what}") for name, text in found.items()}


def _list(value: Any, what: str) -> list[str]:
    if not isinstance(value, list | None):
        raise PlanError(f"{what} is {type(value).__name__}, not a list")
    return [_text(name, f"a name in {what}") for name in value or ()]


def _groups(document: Mapping[str, Any]) -> list[Any]:
    groups = document.get("tied") or []
    if not isinstance(groups, list):
        raise PlanError(f"'tied' is {type(groups).__name__}, not a list of lists")
    return groups


def _edges_of(node: str, entry: Mapping[str, Any]) -> dict[Edge, QuantSpec]:
    if not isinstance(entry, dict) or not isinstance(entry.get("inputs"), dict):
        raise PlanError(f"node '{node}' has no 'inputs' as 'NUMBER: SPEC'")
    _refuse_unknown(entry, ("rule", "inputs"), f"node '{node}'")
    edges = {}
    for i, text in entry["inputs"].items():
        if type(i) is not int or i < 0:
            raise PlanError(f"node '{node}': input '{i}' is not a number from 0")
        try:
            edges[Edge(node, i)] = QuantSpec.parse(str(text))
        except PlanError as e:
            raise PlanError(f"node '{node}', input {i}: {e}") from e
    return edges


def _written(document: Mapping[str, Any], allow_unicode: bool) -> str:
    return str(
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=allow_unicode)
    )


class _Dumper(yaml.SafeDumper):
    """Writes node names as `name:` up to what YAML reads; its emitter stops at 128 characters."""

    def check_simple_key(self) -> bool:
        if isinstance(self.event, yaml.ScalarEvent):
            name = self.event.value
            if name.isascii() and name.isprintable() and len(name) < 1000:
                self.analysis = self.analyze_scalar(name)
                return bool(name)
        return bool(super().check_simple_key())
