"""Two quantized models of one float model, side by side."""

from __future__ import annotations

from typing import Any

Section = dict[str, Any]
Shown = dict[str, Any]  # a `content` value


def against(a: Shown, b: Shown) -> Section:
    """The facts of both, what each output has, and the nodes whose precision is not the same.

    names: of the models. facts: [what, of a, of b]. outputs: name with the SQNR in dB of a and b.
    nodes: name with the precision in each, and what it ran in where an engine tells; a node that a
    model has not has none there.
    """
    ours, theirs = _outputs(a), _outputs(b)
    one, other = ({node["name"]: node for node in each["nodes"]} for each in (a, b))
    return {
        "names": [a["title"], b["title"]],
        "facts": _facts(a, b),
        "outputs": [{"name": n, "a": v, "b": theirs[n]} for n, v in ours.items() if n in theirs],
        "nodes": [
            {"name": name} | _precision(one.get(name), "a") | _precision(other.get(name), "b")
            for name in dict.fromkeys([*one, *other])
            if one.get(name, {}).get("precision") != other.get(name, {}).get("precision")
        ],
    }


def _precision(node: dict[str, Any] | None, side: str) -> dict[str, Any]:
    if node is None:
        return {}
    ran = {"ran": node["engine"]} if "engine" in node else {}
    return {side: {"precision": node["precision"], "kind": node["kind"]} | ran}


def _facts(a: Shown, b: Shown) -> list[list[str]]:
    ours, theirs = _told(a), _told(b)
    either = dict.fromkeys([*ours, *theirs])
    return [[what, ours.get(what, ""), theirs.get(what, "")] for what in either]


def _told(shown: Shown) -> dict[str, str]:
    verdict = shown.get("verdict")
    found = {} if verdict is None else {"verdict": f"{verdict['grade']}, {verdict['worst']}"}
    return found | {card["label"]: card["value"] for card in shown["summary"]}


def _outputs(shown: Shown) -> dict[str, float | str]:
    """SQNR by output, as the page has it: of the comparison, or of the manifest."""
    found = shown.get("comparison") or shown.get("agreement") or {"outputs": []}
    return {o["name"]: o["sqnr_db"] for o in found["outputs"] if "sqnr_db" in o}
