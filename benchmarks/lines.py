"""How large the code is, a row a floor of tests/layers.py, and how its modules hang together.

    python benchmarks/lines.py [--before CHECKOUT]

Lines of Python, blank ones and docstrings included. Modules of the checkout before are counted on
the floor where they, or a module of their name, stand today. An arrow is an import of a module by
another; a circle is a group of modules that import each other by whatever way.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from markdown import table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import layers  # noqa: E402

from onnxq.moved import MOVED  # noqa: E402

OTHERS = ("cli", "tests", "benchmarks", "examples")
FIGURES = ("library", "modules", "longest", "arrows", "up", "in circles")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    before = parser.parse_args().before
    trees = [ROOT] if before is None else [before.resolve(), ROOT]
    counted = [_measured(tree) for tree in trees]
    head = ["", "now"] if before is None else ["", "before", "now"]
    print(table(head, _rows([*layers.FLOORS, *OTHERS], counted)))
    print(table(head, _rows(FIGURES, counted)))


def _rows(names: Iterable[str], counted: list[Counter[str]]) -> Iterable[list[str]]:
    return ([name, *(f"{one[name]:,}" for one in counted)] for name in names)


def _measured(tree: Path) -> Counter[str]:
    """Lines of every floor and folder, and the figures."""
    layers.ROOT = ROOT
    today = layers.modules()
    layers.ROOT = tree
    modules = layers.modules()
    floors = {module: _floor(module, today) for module in modules}
    lines = {module: _lines(path) for module, path in modules.items()}
    found: Counter[str] = Counter()
    for module, floor in floors.items():
        found[floor] += lines[module]
    for folder in OTHERS:
        found[folder] = sum(map(_lines, (tree / folder).rglob("*.py")))
    rank = {floor: i for i, floor in enumerate(layers.FLOORS)}
    arrows = layers.arrows()
    found["library"] = sum(lines.values())
    found["modules"] = len(modules)
    found["longest"] = max(lines.values())
    found["arrows"] = len(arrows)
    found["up"] = sum(rank[floors[a]] < rank[floors[b]] for a, b in arrows if {a, b} <= {*floors})
    found["in circles"] = sum(map(len, layers.circles()))
    return found


def _floor(module: str, today: Iterable[str]) -> str:
    """The floor of a module that may be gone: of its new name, of the only module with its last
    name, of its package, or the ground."""
    name = MOVED.get(module, module)
    if name not in today:
        same = [other for other in today if other.rpartition(".")[2] == module.rpartition(".")[2]]
        name = same[0] if len(same) == 1 else name
    try:
        return layers.floor_of(name)
    except KeyError:
        return "ground"


def _lines(path: Path) -> int:
    return path.read_text("utf-8").count("\n")


if __name__ == "__main__":
    main()
