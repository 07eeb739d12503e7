"""Build one tiny engine a placement and write what each runs: the table of docs/tensorrt.md.

    python benchmarks/placement.py [--arch sm89] [--write docs/tensorrt.md]

Needs TensorRT-RTX, no GPU. With --write, the text between the two markers is replaced.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
from placement_graphs import CASES, Case, Net

from onnxq.trt.build import BuildOptions, BuildResult, build
from onnxq.trt.engine import Engine, coverage, load_engine

BEGIN, END = "<!-- placement: begin -->", "<!-- placement: end -->"
HEAD = "| pattern | Q/DQ at | products run in | kernels | of these Q/DQ | KB moved | |"


@dataclass(frozen=True)
class Row:
    """One variant of one case and its engine."""

    case: Case
    places: str
    precisions: tuple[str, ...]
    engine: Engine


def measure(case: Case, places: str, arch: str, folder: Path) -> tuple[Row, BuildResult]:
    """Build the variant and read it."""
    net = Net(places, case.half)
    case.build(net)
    path = folder / "model.onnx"
    onnx.save(net.model(), path)
    result = build(path, folder / "model.engine", options=BuildOptions("tensorrt-rtx", arch=arch))
    if result.engine is None:
        raise SystemExit(f"{case.name} [{places}]: {'; '.join(map(str, result.problems))}")
    engine = load_engine(result.engine)
    precisions = tuple(coverage(engine, net.products).values())
    return Row(case, places, precisions, engine), result


def line(row: Row) -> str:
    """The row as Markdown."""
    counts = {p: row.precisions.count(p) for p in dict.fromkeys(row.precisions)}
    ran = ", ".join(f"{n} {p}" for p, n in counts.items())
    mark = "onnxq" if row.places == row.case.ours else ""
    places = row.places or "(float)"
    kilobytes = f"{row.engine.traffic / 1000:.0f}" if row.engine.traffic is not None else "?"
    cells = (row.case.name, places, ran, len(row.engine.kernels), row.engine.quantize_kernels)
    return f"| {' | '.join(map(str, cells))} | {kilobytes} | {mark} |"


def table(arch: str) -> str:
    """The whole table, with what it was made with."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="onnxq-") as folder:
        for case in CASES:
            for places in ("", *case.variants):
                row, result = measure(case, places, arch, Path(folder))
                lines.append(line(row))
                print(lines[-1], file=sys.stderr, flush=True)
    made = f"{result.backend} {result.version}, {arch}, by `python benchmarks/placement.py`."
    return "\n".join((made, "", HEAD, "|---|---|---|---|---|---|---|", *lines))


def main() -> None:
    """Print the table, or write it into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="sm89")
    parser.add_argument("--write", type=Path, help="the document to write the table into")
    arguments = parser.parse_args()
    text = table(arguments.arch)
    if arguments.write is None:
        print(text)
        return
    before, _, rest = arguments.write.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    arguments.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
