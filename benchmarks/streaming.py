"""What a model that remembers loses with ranges of first samples: into docs/data.md.

    python benchmarks/streaming.py --packages DIR [--write]

The seeded model of the tests, and Silero VAD out of its package, are quantized with their states
fed back (`--feedback`) and with zeros in their place. Both run on other sequences then, each on
from its own states.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from cases import ROOT
from markdown import table
from stranger import Array, Places, fetch
from stranger_sounds import RATE, SILERO, SPEECH, clip, frames, sentences

from onnxq import api
from onnxq.pipeline.config import Config

sys.path.insert(0, str(ROOT))
from tests.streaming import PAIRS, SHAPES, sequences, streaming_model

PAGE = ROOT / "docs" / "data.md"
BEGINS, ENDS = "<!-- streaming begins -->", "<!-- streaming ends -->"
HEAD = [
    "model",
    "ranges of",
    "worst output",
    "first sample, dB",
    "last, dB",
    "all, dB",
    "same decision",
]
SPEECH_IS = 0.5  # the probability from which on a frame is speech


@dataclass(frozen=True)
class Case:
    """A model with sequences to calibrate on and to judge by: arrays by input and `reset`. states:
    shapes of what is fed back. decides: the output whose values of 0.5 and more are counted."""

    name: str
    model: Path
    feedback: tuple[str, ...]
    states: Mapping[str, tuple[int, ...]]
    calib: Mapping[str, Array]
    judge: Mapping[str, Array]
    config: Config
    decides: str | None = None


def seeded(folder: Path) -> Case:
    """The model of the tests over 16 and 16 sequences of 40 samples."""
    model = folder / "streaming.onnx"
    onnx.save(streaming_model(), model)

    def data(seed: int) -> dict[str, Array]:
        xs = sequences(16, 40, seed)
        return {"x": np.concatenate(xs), "reset": np.arange(16 * 40) % 40 == 0}

    states = {n: s for n, s in SHAPES.items() if n != "x"}
    return Case("seeded, cache and gated cell", model, PAIRS, states, data(1), data(2), Config())


def silero(places: Places) -> Case:
    """Silero VAD over 8 and 8 clips of speech: its state has a free axis, so its first is given."""
    for package in (SILERO.package, SPEECH):
        fetch(package, places.packages)

    def data(seeds: range) -> dict[str, Array]:
        rng = np.random.default_rng(seeds.start + 1)
        clips = [frames(clip(places, seed, sentences(rng, 4))[0]) for seed in seeds]
        count = sum(map(len, clips))
        return {
            "input": np.concatenate([frame for found in clips for frame in found]),
            "sr": np.full(count, RATE, np.int64),
            "reset": np.concatenate([np.arange(len(found)) == 0 for found in clips]),
        }

    config, states = Config(fix=("sr=16000",)), {"state": (2, 1, 128)}
    feedback, calib, judge = ("stateN=state",), data(range(8)), data(range(100, 108))
    model = places.file(SILERO.model)
    return Case("Silero VAD", model, feedback, states, calib, judge, config, "output")


def given_first(case: Case, data: Mapping[str, Array]) -> dict[str, Array]:
    """The data with zeros where their sequences begin."""
    count = int(data["reset"].sum())
    return {**data, **{n: np.zeros((count, *s), np.float32) for n, s in case.states.items()}}


def ignored(case: Case) -> dict[str, Array]:
    """The data with zeros for every state."""
    count = len(case.calib["reset"])
    zeros = {n: np.zeros((count, *s), np.float32) for n, s in case.states.items()}
    return {**{n: x for n, x in case.calib.items() if n != "reset"}, **zeros}


def rows(case: Case, folder: Path) -> Iterator[list[str]]:
    """A row each way to calibrate."""
    fed = replace(case.config, feedback=case.feedback)
    ways = {
        "states": (given_first(case, case.calib), fed),
        "zeros": (ignored(case), case.config),
    }
    for name, (calib, config) in ways.items():
        out = folder / f"{name}.onnx"
        api.write(api.quantize(case.model, calib, config), out)
        judge = given_first(case, case.judge)
        found = api.compare_models(case.model, out, judge, config=Config(feedback=case.feedback))
        worst = found.headline.part
        along = found.found.along[worst]
        top = agreement(case, out, judge) if case.decides else "-"
        yield [case.name, name, f"`{worst}`", f"{along.first.sqnr_db:.1f}",
               f"{along.last.sqnr_db:.1f}", f"{found.headline.sqnr_db:.1f}", top]  # fmt: skip


def agreement(case: Case, quantized: Path, judge: Mapping[str, Array]) -> str:
    """The share of samples in which both models decide the same, each on from its own states."""
    from onnxq.run.over import stream

    assert case.decides is not None
    config = Config(feedback=case.feedback)
    dataset = api.data(api.open_model(case.model), judge, config)
    said = [
        np.concatenate([out[case.decides].reshape(-1) for out in stream(path, dataset)])
        for path in (case.model, quantized)
    ]
    same = (said[0] >= SPEECH_IS) == (said[1] >= SPEECH_IS)
    return f"{100 * float(same.mean()):.1f}%"


def write(text: str) -> None:
    """Write the table into the page."""
    page = PAGE.read_text("utf-8")
    head, _, rest = page.partition(BEGINS)
    PAGE.write_text(f"{head}{BEGINS}\n\n{text}\n{ENDS}{rest.partition(ENDS)[2]}", "utf-8")


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, help="where packages are unpacked")
    parser.add_argument("--write", action="store_true", help="into docs/data.md")
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = (seeded(folder), silero(Places(args.packages.resolve(), None)))
        found = [row for case in cases for row in rows(case, folder)]
    text = table(HEAD, found)
    print(text)
    if args.write:
        write(text)


if __name__ == "__main__":
    main()
