"""Which packages may import which: a module imports its own floor and those below, never above.

`onnxq/` has these floors, from the ground up. A module that stands alone in `onnxq/` is on the
ground or at the top; every other floor is a package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FLOORS = {
    "ground": "values and files that know no model",
    "model": "a model as it was read: graph, file, stored weights, Q/DQ, patterns",
    "targets": "placement tables: what a runtime quantizes, and why",
    "layers": "what TensorRT says of an engine: layers, times, the nodes in them",
    "passes": "one rewrite of a graph a file",
    "run": "models over samples: sessions, segments, devices",
    "cost": "what running a node costs: counted, by makers' figures, by one profile",
    "calib": "data, histograms, methods, ranges",
    "judge": "how far two models are apart: metrics, parts, spread, verdict",
    "cluster": "tasks on other processes and machines",
    "recover": "what wins accuracy back, a recovery a file",
    "finetune": "what is learned against the float model, with torch (an extra)",
    "pipeline": "the steps of `quantize`, in the order in which they happen",
    "sensitivity": "what each node costs",
    "search": "which nodes stay float under a budget",
    "ladder": "from a goal to the cheapest way that meets it",
    "trt": "lint, build, engines",
    "inspect": "what was quantized, how and why",
    "report": "what a run says: text, Markdown, HTML, plots",
    "verbs": "every verb, typed: what `onnxq.*` and the commands call",
}
GROUND = ("arrays", "errors", "escaping", "files", "fp4", "imports", "json_text", "moved",
          "numerics", "option", "plan", "progress", "saved", "schemes", "spec", "table", "terminal",
          "words", "yaml_text")  # fmt: skip
SURFACE = ("", "api", "__main__")
# Which foreign library is imported on which floor alone.
FOREIGN = {"onnxruntime": ("run",), "tensorrt": ("trt",), "tensorrt_rtx": ("trt",),
           "polygraphy": ("trt", "judge"), "torch": ("finetune",)}  # fmt: skip

Arrow = tuple[str, str]


def modules() -> dict[str, Path]:
    """Every module of the library by its name within `onnxq`."""
    package = ROOT / "onnxq"
    return {
        ".".join(p.relative_to(package).with_suffix("").parts)
        .removesuffix("__init__")
        .rstrip("."): p
        for p in sorted(package.rglob("*.py"))
    }


def floor_of(module: str) -> str:
    """The floor that a module stands on; raises KeyError for one that has none."""
    if module in GROUND:
        return "ground"
    if module in SURFACE:
        return "verbs"
    package = module.partition(".")[0]
    if package not in FLOORS:
        raise KeyError(f"module 'onnxq.{module}' stands on no floor; add it to tests/layers.py")
    return package


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def arrows() -> set[Arrow]:
    """Every import of a module of the library by another: (from, to)."""
    known = modules()
    found = set()
    for module, path in known.items():
        for name in imported(path):
            package, _, inner = name.partition(".")
            if package != "onnxq":
                continue
            target = inner if inner in known else inner.rpartition(".")[0]
            if target not in (module, ""):
                found.add((module, target))
    return found


def climbs() -> list[Arrow]:
    """The arrows that run up."""
    rank = {floor: i for i, floor in enumerate(FLOORS)}
    return sorted(a for a in arrows() if rank[floor_of(a[0])] < rank[floor_of(a[1])])


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    ahead: dict[str, set[str]] = {name: set() for name in modules()}
    for module, target in arrows():
        ahead[module].add(target)
    reach = {name: _reached(name, ahead) for name in ahead}
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in ahead if a in reach[a]}
    return sorted(sorted(group) for group in groups)


def _reached(start: str, ahead: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = list(ahead[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += ahead[name]
    return seen
