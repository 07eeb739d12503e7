"""What all plots share: the forms they are written in, size, fonts, colours, and writing a file.

A figure is drawn at the size it is printed in (inches), so that its text keeps its points. Colours
are Okabe and Ito's, which the colour-blind tell apart; what has a colour has a dash or a marker of
its own besides. Equal input gives equal bytes with the same matplotlib: no date, and a fixed salt
for the ids of an SVG.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from onnxq.errors import PlanError, RuntimeMissing
from onnxq.files import replacing

Figure: TypeAlias = Any  # matplotlib.figure.Figure; matplotlib is an extra
Axis: TypeAlias = Any  # matplotlib.axes.Axes

FORMS = (".png", ".svg", ".pdf")
DPI = 200  # of a PNG
LEAST, MOST = 3.0, 40.0  # inches
BLUE, ORANGE, GREEN, RED, PINK, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
)  # fmt: skip
GREY = "0.45"
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "text.parse_math": False,  # a '$' in a name is a '$'
    "svg.hashsalt": "onnxq",
    "pdf.fonttype": 42,  # TrueType, as publishers ask
}
NO_DATE = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Look:
    """title: None for the plot's own, "" for none. width: in inches."""

    title: str | None = None
    width: float = 7.0

    def __post_init__(self) -> None:
        if not LEAST <= self.width <= MOST:
            raise PlanError(f"width {self.width:g}: give inches from {LEAST:g} to {MOST:g}")


def check_path(path: Path) -> None:
    """Raises PlanError for a form that `write` does not know, RuntimeMissing without matplotlib.

    Meant for before the work is done.
    """
    if path.suffix not in FORMS:
        raise PlanError(f"cannot write a plot as '{path.name}'; choose {', '.join(FORMS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise RuntimeMissing(f"writing '{path.name}' needs matplotlib; pip install \"onnxq[plot]\"")


@contextmanager
def styled() -> Iterator[None]:
    """Within it matplotlib draws in this style; its settings are as before afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # nor does a matplotlibrc of the user's change a byte
        settings: Any = matplotlib.rcParams
        settings.update(STYLE)
        yield


def figure_of(width: float, height: float) -> Figure:
    """An empty figure, in inches; `savefig` alone needs no display."""
    from matplotlib.figure import Figure as Made

    return Made(figsize=(width, height), layout="constrained")


def entitle(figure: Figure, title: str, look: Look) -> None:
    """Put the title of `look` over a figure, or else `title`, shortened to what fits."""
    text = shortened(title, int(13.5 * look.width)) if look.title is None else look.title
    if text:
        figure.suptitle(text, x=0.01, ha="left", fontsize=9)


def shortened(name: str, length: int) -> str:
    """A name of at most `length` characters: its end, which tells nodes apart."""
    return name if len(name) <= length else f"…{name[len(name) - length + 1 :]}"


def count_label(count: float) -> str:
    """A power of ten for an axis: 1, 10, 100, 1k, ..."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return f"{count:g}"


def write(figure: Figure, path: Path) -> None:
    """Write a figure in the form of the suffix, whole or not at all; raises as `check_path`."""
    check_path(path)
    form = path.suffix
    with replacing(path) as temporary, styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a box stands for it, which is seen
        figure.savefig(temporary, format=form[1:], dpi=DPI, metadata=NO_DATE[form])
