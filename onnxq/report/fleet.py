"""What becomes of a model on each architecture, as a table."""

from __future__ import annotations

from rich.console import Group, RenderableType

from onnxq.table import Table
from onnxq.terminal import line
from onnxq.trt.fleet import Cell, Fleet
from onnxq.words import MB


def render(found: Fleet) -> RenderableType:
    """A row a build, and a line for each that is refused or not known."""
    rows = [
        (cell.arch, cell.device, cell.form, cell.state, _covered(cell), _or(cell.kernels),
         "-" if cell.moved is None else f"{cell.moved / MB:.1f}")
        for cell in found.cells
    ]  # fmt: skip
    columns = ("arch", "GPU", "form", "", "as meant", "kernels", "MB moved")
    whys: dict[str, list[str]] = {}
    for cell in found.cells:
        if cell.why:
            whys.setdefault(f"{cell.state}: {cell.why}", []).append(cell.arch)
    lines = [
        line(f"{', '.join(dict.fromkeys(archs))} {why}", "red" if why.startswith("ref") else "")
        for why, archs in whys.items()
    ]
    return Group(Table(f"{found.model} on every GPU", columns, rows, names=4), *lines)


def _covered(cell: Cell) -> str:
    return "-" if cell.meant is None else f"{cell.covered} of {cell.meant}"


def _or(number: int | None) -> str:
    return "-" if number is None else str(number)
