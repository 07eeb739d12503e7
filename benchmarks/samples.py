"""Whether `--enough` is right, and what `--pick` is worth: into docs/data.md.

    python benchmarks/samples.py --shared DIR --cache DIR [--models resnet20 ...]

Doubling: samples are drawn, then as many more; what was said of the first half is held against
what the second half did, on samples that neither has. Picking: a few samples picked against as many
drawn, several times; ranges of both are judged on held-out samples, by the error of activations,
by the outputs, and by the metric of the task. Models are quantized without recoveries, so that
nothing makes up for a range.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import run
from cases import CASES, ROOT, Bench, Case, add_places, feeds, places, say
from markdown import table

from onnxq import api
from onnxq.calib.collect import collect, compiled
from onnxq.calib.data import Dataset
from onnxq.calib.enough import Enough
from onnxq.calib.observed import activation_specs, observed
from onnxq.calib.quant_error import mean_square
from onnxq.calib.ranges import Ranges, errors_on
from onnxq.calib.stats import Stats, merge
from onnxq.model import graph as graphs
from onnxq.pipeline.calibrating import how_enough
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source
from onnxq.pipeline.steps import compare, insert, picked, plan, prepare, read, signatures_of
from onnxq.plan import Plan

PAGE = ROOT / "docs" / "data.md"
BEGINS, ENDS = "<!-- figures begin -->", "<!-- figures end -->"
PARTS, DRAWS, SEEDS = 8, 4, 5
LADDER = {"resnet20": (25, 50, 100), "efficientnet_lite0": (25, 50, 100), "yolo11n": (16, 32, 64)}
POOL = {"resnet20": 1000, "efficientnet_lite0": 100, "yolo11n": 127}
PICKED = {"resnet20": (16, 64), "efficientnet_lite0": (16, 32), "yolo11n": (16, 32)}
HELD, JUDGES = 48, 16  # samples whose activations judge; of them, those whose outputs do


@dataclass(frozen=True)
class Subject:
    """A model with its plan, a pool of samples, others that are held out, and what those hold."""

    bench: Bench
    case: Case
    config: Config
    source: Source
    plan: Plan
    pool: Dataset
    held: Dataset
    seen: Stats

    @staticmethod
    def of(bench: Bench, case: Case) -> Subject:
        folder = Path(tempfile.mkdtemp(prefix="onnxq-samples-"))
        config = Config(recover="none")
        source = prepare(bench.model(case), config)
        chosen = plan(source, config)
        pool, held = (
            api.data(source, [_data(bench, case, split, count, folder)], config)
            for split, count in (("calib", POOL[case.name]), ("val", HELD))
        )
        seen = api.calibrate(source, chosen, held, config)
        return Subject(bench, case, config, source, chosen, pool, held, seen)

    def count(self, dataset: Dataset) -> Stats:
        return api.calibrate(self.source, self.plan, dataset, self.config)

    def each(self, dataset: Dataset) -> list[Stats]:
        """The statistics of every sample."""
        names = observed(self.source.graph, self.plan)
        program = compiled(self.source.graph, names, dataset)

        def one(i: int) -> Stats:
            some = dataset.select([i])
            return collect(self.source.graph, names, some, workers=1, program=program)

        with ThreadPoolExecutor(2) as workers:
            return list(workers.map(one, range(len(dataset))))

    def read(self, stats: Stats) -> Ranges:
        return read(self.source, self.plan, stats, "mse")

    def noise(self, several: list[Ranges]) -> dict[str, list[float]]:
        """Tensor -> noise by signal on the held-out samples, with each of several ranges."""
        specs = activation_specs(self.source.graph, self.plan)
        errors = errors_on(self.seen, several, specs, self.plan.tied)
        signal = {name: mean_square(self.seen[name]) for name in errors}
        return {n: [e / signal[n] for e in errors[n]] for n in errors if signal[n]}

    def outputs(self, ranges: Ranges) -> float:
        """The mean SQNR of the outputs of held-out samples."""
        graph = insert(self.source, self.plan, ranges, self.config)
        few = self.held.select(range(JUDGES))
        agreement = compare(self.source, graph, few, self.config)
        return float(np.mean([a.sqnr_db for a in agreement.values()]))

    def metric(self, ranges: Ranges | None) -> float:
        """The task's metric; of the float model without ranges."""
        if ranges is None:
            path = self.bench.model(self.case)
        else:
            path = self.bench.cache / f"samples-{self.case.name}.onnx"
            graphs.save(insert(self.source, self.plan, ranges, self.config), path)
        outputs = run(self.bench, self.case, path)
        return float(self.bench.task(self.case).score(list(outputs))[self.case.metric])


def _data(bench: Bench, case: Case, split: str, count: int, folder: Path) -> str:
    path = folder / f"{split}.npy"
    np.save(path, np.concatenate(list(islice(feeds(bench, case, split), count))))
    return str(path)


def decibels(before: float, after: float) -> float:
    return float(10 * np.log10(before / after))


def doubling(subject: Subject) -> list[dict[str, Any]]:
    """What was said and what came, of each size and draw."""
    sizes = LADDER[subject.case.name]
    rows = []
    stats = subject.each(subject.pool.subset(min(len(subject.pool), 2 * sizes[-1])))
    for size in sizes[:-1]:
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(len(stats))
            parts = [merge(*(stats[i] for i in order[:size][k::PARTS])) for k in range(PARTS)]
            once = subject.read(merge(*parts))
            twice = subject.read(merge(*(stats[i] for i in order[: 2 * size])))
            said = how_enough(subject.source, subject.plan, parts, once, "mse")
            rows.append(_held_against(subject, said, once, twice))
            say(f"{subject.case.title}: {size} doubled, draw {draw}: {json.dumps(rows[-1])}")
    return rows


def _held_against(subject: Subject, said: Enough, once: Ranges, twice: Ranges) -> dict[str, Any]:
    noise = subject.noise([once, twice])
    came = {name: decibels(*noise[name]) for name in said.tensors if name in noise}
    off = {n: abs(came[n] - said.tensors[n].change_db) for n in came}
    within = [off[n] <= 2 * said.tensors[n].error_db + 0.01 for n in came]
    before, after = (sum(v[k] for v in noise.values()) for k in (0, 1))
    return {
        "samples": said.samples,
        "said": said.together.change_db,
        "error": said.together.error_db,
        "came": decibels(before, after),
        "said_mean": float(np.mean([said.tensors[n].change_db for n in came])),
        "came_mean": float(np.mean(list(came.values()))),
        "said_worst": said.tensors[said.worst].change_db,
        "came_there": came.get(said.worst, 0.0),
        "came_worst": max(came.values(), key=abs),
        "within": float(np.mean(within)),
        "outputs": subject.outputs(twice) - subject.outputs(once),
    }


def picking(subject: Subject) -> dict[str, Any]:
    """Figures of the picked samples, of those drawn, of all."""
    known = signatures_of(subject.source, subject.pool, subject.config)
    sets = {"all": subject.pool}
    for count in PICKED[subject.case.name]:
        sets[f"picked {count}"] = picked(subject.pool, known, count)
        sets |= {f"drawn {count} {k}": subject.pool.subset(count, seed=k) for k in range(SEEDS)}
    ranges = {name: subject.read(subject.count(some)) for name, some in sets.items()}
    best = subject.noise([subject.read(subject.seen)])
    least = sum(v[0] for v in best.values())
    noise = subject.noise(list(ranges.values()))
    found = {"float": {"metric": subject.metric(None)}}
    for k, (name, read_off) in enumerate(ranges.items()):
        found[name] = {
            "excess": decibels(sum(v[k] for v in noise.values()), least),
            "outputs": subject.outputs(read_off),
            "metric": subject.metric(read_off),
        }
        say(f"{subject.case.title}: {name}: {json.dumps(found[name])}")
    return found


def doubling_table(found: dict[str, list[dict[str, Any]]]) -> str:
    rows = []
    for title, draws in found.items():
        for size in dict.fromkeys(d["samples"] for d in draws):
            some = [d for d in draws if d["samples"] == size]

            def mean(key: str, some: list[dict[str, Any]] = some) -> float:
                return float(np.mean([d[key] for d in some]))

            came = [d["came"] for d in some]
            rows.append([
                title, f"{size} -> {2 * size}", f"{mean('said'):+.2f} +- {mean('error'):.2f}",
                f"{mean('came'):+.2f} ({min(came):+.2f} to {max(came):+.2f})",
                f"{mean('said_mean'):+.3f}", f"{mean('came_mean'):+.3f}",
                f"{max((d['said_worst'] for d in some), key=abs):+.2f}",
                f"{max((d['came_worst'] for d in some), key=abs):+.2f}",
                f"{100 * mean('within'):.0f}", f"{mean('outputs'):+.2f}",
            ])  # fmt: skip
    head = ["model", "samples", "all together: said", "came", "mean tensor: said", "came",
            "most: said", "came", "% of tensors within 2 errors", "outputs dB"]  # fmt: skip
    return table(head, rows)


def picking_table(found: dict[str, dict[str, Any]], cases: dict[str, Case]) -> str:
    rows = []
    for title, sets in found.items():
        case = cases[title]
        kinds = {"excess": "noise above the least, dB", "outputs": "SQNR of outputs, dB",
                 "metric": f"{case.metric}, float {sets['float']['metric']:.2f}"}  # fmt: skip
        for count in PICKED[case.name]:
            for key, what in kinds.items():
                own = sets[f"picked {count}"][key]
                drawn = [f[key] for name, f in sets.items() if name.startswith(f"drawn {count} ")]
                sign = -1 if key == "excess" else 1
                better = sum(sign * own >= sign * value for value in drawn)
                rows.append([
                    f"{title}, {count} of {POOL[case.name]}", what, f"{own:.2f}",
                    f"{np.mean(drawn):.2f} ({min(drawn):.2f} to {max(drawn):.2f})",
                    f"{better} of {len(drawn)}", f"{sets['all'][key]:.2f}",
                ])  # fmt: skip
    return table(["samples", "figure", "picked", "drawn", "no worse than", "all"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--models", nargs="*", default=list(LADDER), choices=list(LADDER))
    parser.add_argument("--page", action="store_true", help="write the page from what is kept")
    args = parser.parse_args()
    bench = places(args)
    kept = bench.cache / "samples.json"
    found = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    cases = {case.title: case for case in CASES}
    for case in cases.values():
        if case.name in args.models and not args.page:
            subject = Subject.of(bench, case)
            found[case.title] = {"picking": picking(subject), "doubling": doubling(subject)}
            kept.write_text(json.dumps(found, indent=1), "utf-8")
    text = doubling_table({title: f["doubling"] for title, f in found.items()})
    text += "\n" + picking_table({title: f["picking"] for title, f in found.items()}, cases)
    page = PAGE.read_text("utf-8") if PAGE.is_file() else f"{BEGINS}\n{ENDS}\n"
    head, _, rest = page.partition(BEGINS)
    PAGE.write_text(f"{head}{BEGINS}\n\n{text}\n{ENDS}{rest.partition(ENDS)[2]}", "utf-8")


if __name__ == "__main__":
    main()
