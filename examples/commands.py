"""Running `onnxq` from the examples: each command is printed as you would type it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def onnxq(*words: object) -> int:
    """Run a command; returns 0, or 1 where it ran and has something to object to. Ends the example
    where it could not run."""
    arguments = [str(word) for word in words]
    print(f"\n$ onnxq {shlex.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "onnxq_cli", *arguments], check=False)
    if done.returncode > 1:
        sys.exit(done.returncode)
    return done.returncode


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns; the first is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *rest = row
        numbers = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *numbers]))
