"""The smallest set of Q/DQ whose removal lets a refused model build.

Delta debugging (Zeller and Hildebrandt, 2002) over the tensors that are dequantized: halves of the
suspects are put back while the model still builds without the others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from onnxq.errors import ModelError
from onnxq.model.graph import Graph, save
from onnxq.passes.apply import tidy
from onnxq.passes.strip_qdq import strip_qdq
from onnxq.progress import Progress, silent
from onnxq.trt.build import BuildOptions, build

Test = Callable[[Sequence[str]], bool]


def bisect(
    graph: Graph,
    options: BuildOptions,
    progress: Progress = silent,
) -> list[str]:
    """Names of the DequantizeLinear nodes to remove, as few as can be, so that the graph builds.

    No one of them can be left in. Raises ModelError where the graph does not build without any
    Q/DQ either.
    """
    names = [n.name for n in graph.nodes if n.op == "DequantizeLinear"]
    builds = 0

    def test(removed: Sequence[str]) -> bool:
        nonlocal builds
        builds += 1
        progress("bisect", builds, builds + 1)
        return _builds_without(graph, removed, options)

    if not test(names):
        raise ModelError("the model does not build without any Q/DQ either, so they are not why; "
                         "build the float model and read its errors")  # fmt: skip
    return minimal(names, test)


def minimal(items: Sequence[str], holds: Test) -> list[str]:
    """A subset of `items` for which `holds` is true and is not for it less any one item."""
    found, parts = list(items), 2
    while len(found) > 1:
        size = -(-len(found) // parts)
        chunks = [found[i : i + size] for i in range(0, len(found), size)]
        fewer = next((c for c in chunks if holds(c)), None) if parts > 1 else None
        if fewer is not None:
            found, parts = fewer, 2
            continue
        rests = ([x for x in found if x not in c] for c in chunks)
        rest = next((r for r in rests if r and holds(r)), None) if parts > 2 else None
        if rest is not None:
            found, parts = rest, max(parts - 1, 2)
        elif parts >= len(found):
            break
        else:
            parts = min(2 * parts, len(found))
    return found


def _builds_without(graph: Graph, removed: Sequence[str], options: BuildOptions) -> bool:
    copy = graph.copy()
    strip_qdq(copy, only=set(removed))
    tidy(copy)
    with tempfile.TemporaryDirectory(prefix="onnxq-") as folder:
        model = Path(folder) / "model.onnx"
        save(copy, model)
        return build(model, Path(folder) / "model.engine", options=options).ok
