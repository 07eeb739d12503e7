"""NODE or TENSOR on the command line: which nodes or tensors of a model that names."""

from __future__ import annotations

from onnxq.errors import PlanError
from onnxq.inspect.reading import NodeReading, Reading
from onnxq.model.patterns import EXACT, matches, matches_text, nearest


def choose(reading: Reading, pattern: str) -> tuple[list[NodeReading], list[str]]:
    """(nodes, tensors) that `pattern` names; one of the two is empty.

    The whole name of a node wins over that of a tensor, whole names over patterns of nodes, and
    these over parts of a tensor's name. Raises PlanError, with the nearest names, for nothing.
    """
    bare = pattern.removeprefix(EXACT)
    tensors = dict.fromkeys([*reading.readers, *reading.writers])
    if bare in reading.by_name:
        return [reading.by_name[bare]], []
    if bare in tensors:
        return [], [bare]
    if not pattern.removeprefix("tensor:").strip():
        raise PlanError(f"pattern '{pattern}' is empty and would match every node; use '*'")
    if pattern.startswith("tensor:"):
        found = [name for name in tensors if matches_text(pattern[len("tensor:") :], name)]
        if found:
            return [], found
        raise PlanError(f"pattern '{pattern}' matches no tensor; the nearest names are "
                        f"{nearest(pattern, tensors)}")  # fmt: skip
    nodes = [node for node in reading.nodes if matches(pattern, node.node)]
    if nodes:
        return nodes, []
    found = [name for name in tensors if matches_text(pattern, name)]
    if found:
        return [], found
    if pattern.startswith("op:"):
        names = sorted({node.op for node in reading.nodes})
    else:
        names = [*reading.by_name, *reading.writers]
    raise PlanError(f"pattern '{pattern}' matches no node or tensor; the nearest names are "
                    f"{nearest(pattern, names)}")  # fmt: skip
