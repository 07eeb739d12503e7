"""Patterns that name nodes: `--skip deblocks`, `op:ConvTranspose`, `tensor:/neck/out`, `name:x`.

A pattern is a glob or a plain substring of the node's name, of its op type with `op:` (whole
type), or of a tensor it writes with `tensor:`. '.' and '/' count as the same separator, and a
scope that the next one repeats may be left out, so that a module's path in PyTorch,
`neck.deblocks.0.0`, names `/neck/deblocks.0/deblocks.0.0/Conv`. `name:` is followed by the whole
name of one node, to the letter, or by that name as a JSON string, for one with a line break.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from pathlib import Path

from onnxq.errors import PlanError
from onnxq.json_text import from_json, to_json
from onnxq.model.graph import Graph, Node, within

EXACT = "name:"


def _normal(text: str) -> str:
    return text.replace(".", "/")


def _module_path(name: str) -> str:
    """`name` without the scopes that the scope after them begins with."""
    scopes = name.split("/")
    following = [*scopes[1:], ""]
    kept = [s for s, after in zip(scopes, following, strict=True) if not after.startswith(f"{s}.")]
    return "/".join(kept)


def matches_text(pattern: str, text: str) -> bool:
    pattern = _normal(pattern)
    forms = (_normal(text), _normal(_module_path(text)))
    return any(pattern in form or fnmatch.fnmatchcase(form, pattern) for form in forms)


def exactly(name: str) -> str:
    """The pattern, in one line, for the node of that name and no other."""
    plain = name.isprintable() and not name.startswith('"')
    return EXACT + (name if plain else to_json(name))


def _is_named(text: str, name: str) -> bool:
    """Whether what follows `name:` is the name, or the name as a JSON string."""
    if text == name or not text.startswith('"'):
        return text == name
    try:
        return bool(from_json(text) == name)
    except ValueError:
        return False


def matches(pattern: str, node: Node) -> bool:
    """Whether `pattern` names `node`."""
    if pattern.startswith(EXACT):
        return _is_named(pattern.removeprefix(EXACT), node.name)
    if pattern.startswith("op:"):
        return fnmatch.fnmatchcase(node.op, pattern[3:])
    if pattern.startswith("tensor:"):
        return any(matches_text(pattern[7:], t.name) for t in node.outputs)
    return matches_text(pattern, node.name)


def select(graph: Graph, patterns: Iterable[str]) -> dict[str, str]:
    """Names of the nodes that some pattern matches, each with the first pattern that did.

    Raises PlanError for a pattern that matches nothing; it lists the nearest names.
    """
    chosen: dict[str, str] = {}
    for pattern in expand(patterns):
        if not pattern.removeprefix("tensor:").strip():
            raise PlanError(f"pattern '{pattern}' is empty and would match every node; use '*'")
        found = [node.name for node in within(graph.nodes) if matches(pattern, node)]
        if not found:
            raise PlanError(_nothing_matches(graph, pattern))
        for name in found:
            chosen.setdefault(name, pattern)
    return chosen


def expand(patterns: Iterable[str]) -> list[str]:
    """The patterns with every `@file` replaced by the file's lines ('#' starts a comment)."""
    out: list[str] = []
    for pattern in patterns:
        if not pattern.startswith("@"):
            out.append(pattern)
            continue
        path = Path(pattern[1:])
        if not path.is_file():
            raise PlanError(f"no pattern list at '{path}'; '@' reads patterns from a file")
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as e:
            raise PlanError(f"the pattern list '{path}' is not UTF-8 text: {e}") from e
        out += [line for line in map(_line, text.split("\n")) if line]
    return out


def _line(text: str) -> str:
    """A line of a pattern list without its comment; an exact name may hold a '#' or end in ' '."""
    if text.startswith(EXACT):
        return text.removesuffix("\r")
    return text.split("#", 1)[0].strip()


def _nothing_matches(graph: Graph, pattern: str) -> str:
    if pattern.startswith("op:"):
        names = sorted({node.op for node in within(graph.nodes)})
    elif pattern.startswith("tensor:"):
        names = [t.name for node in within(graph.nodes) for t in node.outputs]
    else:
        names = [node.name for node in within(graph.nodes)]
    return f"pattern '{pattern}' matches no node; the nearest names are {nearest(pattern, names)}"


def nearest(pattern: str, names: Iterable[str]) -> str:
    """The three names most like what `pattern` says, quoted, with commas between."""
    bare = pattern.removeprefix(EXACT).removeprefix("op:").removeprefix("tensor:").strip("*")
    by_normal = {_normal(n): n for n in names}
    near = difflib.get_close_matches(_normal(bare), list(by_normal), n=3, cutoff=0.0)
    return ", ".join(f"'{by_normal[n]}'" for n in near)
