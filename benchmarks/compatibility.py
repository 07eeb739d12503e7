"""Which versions of what onnxq stands on it works with: each row in a fresh virtual environment.

    python benchmarks/compatibility.py [--rows NAME,...] [--write docs/hardening.md]

A wheel of this checkout is installed with the versions of a row; then `quantize`, `compare`,
`calibrate`, `sensitivity`, `lint`, `inspect`, `report` and `build` run on fixtures. Exit code 1: a
command of a row failed. Needs a package index that pip reaches.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from markdown import table

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- rows: begin -->", "<!-- rows: end -->"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
SHOWN = ("onnx", "onnxruntime", "numpy", "tensorrt-rtx", "onnx-graphsurgeon", "polygraphy", "click")
FIXTURES = {
    "classifier": ("classifier/classifier.onnx", "classifier/calib.npy"),
    "centerpoint": ("centerpoint/backbone_neck_head.onnx", "centerpoint/calib.npy"),
    "transformer": ("transformer/transformer.onnx", "transformer/calib.npz"),
}


@dataclass(frozen=True)
class Row:
    """Versions that are pinned; the others are the newest that fit."""

    name: str
    pins: tuple[str, ...] = ()


ROWS = (
    Row("oldest", ("onnx==1.19.0", "onnxruntime==1.20.0", "numpy==1.26.4",
                   "onnx-graphsurgeon==0.6.1", "polygraphy==0.50.3", "click==8.2.0")),
    Row("numpy1", ("onnx==1.19.1", "onnxruntime==1.22.1", "numpy==1.26.4")),
    Row("onnx20", ("onnx==1.20.1", "onnxruntime==1.23.2", "numpy==2.0.2")),
    Row("onnx21", ("onnx==1.21.0", "onnxruntime==1.26.0")),
    Row("onnx22", ("onnx==1.22.0", "onnxruntime==1.30.0")),
    Row("newest"),
)  # fmt: skip


def run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as a child process, without this one's paths of Python."""
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, cwd=cwd,
        env=CLEAN,
    )  # fmt: skip


def measured(row: Row, wheel: Path) -> tuple[list[str], bool]:
    """The cells of a row, and whether every command did what it is for."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        run(sys.executable, "-m", "venv", folder / "venv").check_returncode()
        installed = run(programs / "python", "-m", "pip", "install", "-q",
                        f"{wheel}[cpu,rtx]", *row.pins)  # fmt: skip
        if installed.returncode:
            why = installed.stderr.strip().splitlines()[-1]
            return [*(" " for _ in SHOWN), f"cannot be installed: {why}"], False
        listed = json.loads(run(programs / "python", "-m", "pip", "list", "--format=json").stdout)
        versions = {one["name"].lower().replace("_", "-"): one["version"] for one in listed}
        failed, said = commands(programs / "onnxq", folder)
    return [*(versions.get(name, "-") for name in SHOWN), failed or said], not failed


def commands(onnxq: Path, folder: Path) -> tuple[str, str]:
    """(what failed first, or nothing; dB of each fixture)."""
    decibels = []
    for name, (model, data) in FIXTURES.items():
        path, calib = ROOT / "fixtures" / model, ("--calib", ROOT / "fixtures" / data)
        quantized = folder / f"{name}.onnx"
        steps = [
            ("quantize", path, *calib, "-o", quantized),
            ("compare", path, quantized, *calib, "--samples", "8"),
            ("calibrate", path, *calib, "-o", folder / "r.json"),
            ("sensitivity", path, *calib, "--samples", "4", "-o", folder / "r.csv"),
            ("lint", quantized),
            ("inspect", quantized),
            ("report", quantized, "-o", folder / "r.html"),
            ("build", quantized, "-o", folder / "m.engine"),
        ]
        for step in steps:
            ran = run(onnxq, *step, cwd=folder)
            if ran.returncode:
                return f"**{step[0]} of {name}**: {(ran.stderr or ran.stdout).strip()[-200:]}", ""
        manifest = json.loads((folder / f"{name}.onnx.manifest.json").read_text("utf-8"))
        decibels.append(f"{manifest['agreement']['headline']['sqnr_db']:.1f}")
    return "", f"all 8 commands; {' / '.join(decibels)} dB"


def wheel_of(folder: Path) -> Path:
    """A wheel of this checkout."""
    made = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    made.check_returncode()
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> int:
    """Measure the rows, print them, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page to renew")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        wheel = wheel_of(Path(folder))
        for row in ROWS:
            if row.name in args.rows.split(","):
                found.append(measured(row, wheel))
                print(found[-1][0], file=sys.stderr, flush=True)
    python = ".".join(map(str, sys.version_info[:2]))
    text = f"Python {python}.\n\n{table([*SHOWN, 'works'], (cells for cells, _ in found))}"
    print(text)
    if args.write:
        page = args.write.read_text("utf-8")
        head, tail = page.split(BEGIN)[0], page.split(END)[1]
        args.write.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", "utf-8")
    return 0 if all(ok for _, ok in found) else 1


if __name__ == "__main__":
    sys.exit(main())
