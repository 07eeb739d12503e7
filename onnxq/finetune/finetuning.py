"""Block reconstruction as a step on a draft: a better one comes out, or the same.

Blocks are learned in the order of the graph, each with those before it in place (`learning`). Where
the outputs are worse for it in the end, the later half of the blocks goes back to what it was, and
so on. Then biases and ranges are learned end to end, as if the model were one block, and kept where
the judges agree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from onnxq.errors import OnnxqError
from onnxq.finetune.block_model import BlockModel
from onnxq.finetune.blocks import Block, blocks_of, whole_of
from onnxq.finetune.interpreter import refuse_lacking, to_torch
from onnxq.finetune.learned import Learned, Result
from onnxq.finetune.learning import Course, learn
from onnxq.finetune.options import FinetuneOptions
from onnxq.finetune.pupils import Pupils
from onnxq.finetune.state import State, key_of
from onnxq.finetune.walk import Walk, counts
from onnxq.finetune.work import Load, loads
from onnxq.judge.verdict import Errors, sqnr
from onnxq.model.graph import Graph
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.keeping import fewer, keep
from onnxq.recover.sites import find_sites
from onnxq.run import segments
from onnxq.words import count

TITLE = "finetune"
WORK = 8e12  # products of all steps together: some minutes on two cores
STEPS = (100, 4000)  # of a block, unasked
POLISHING = 8  # times fewer steps end to end
NO_JUDGE = "nothing was learned: the model has no float32 output to judge by"
OOM = ("not enough memory", "can't allocate", "out of memory")

log = logging.getLogger(__name__)
Kept = tuple[Block, Learned]


@dataclass(frozen=True)
class Finetune:
    """How a draft is learned: options; seed of what is drawn; where finished blocks are written;
    torch's threads."""

    options: FinetuneOptions
    seed: int = 0
    state: Path | None = None
    threads: int = 2

    def check(self, graph: Graph, outputs: Sequence[str]) -> None:
        """Raises ModelError for a graph with an op that there is no function for, OnnxqError where
        there is no CUDA and it is asked for."""
        refuse_lacking(segments.restrict(graph, outputs))
        self.device()

    def device(self) -> str:
        """Where torch runs."""
        there = torch.cuda.is_available()
        if self.options.device == "cuda" and not there:
            raise OnnxqError("torch finds no CUDA here; leave --device out, or install its wheel")
        return "cuda" if there and self.options.device != "cpu" else "cpu"

    def __call__(self, bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
        """The better draft, and what was learned."""
        if not bench.judged or not len(bench.data):
            return draft, Outcome(TITLE, notes=(NO_JUDGE,))
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return Run(self, bench, draft).made()
        finally:
            torch.set_num_threads(before)


@dataclass
class Run:
    """One run: its blocks and their models, the samples, and what came of each block."""

    how: Finetune
    bench: Bench
    draft: Draft
    results: list[tuple[Block, Result]] = field(default_factory=list)

    def __post_init__(self) -> None:
        bench, draft = self.bench, self.draft
        self.device = self.how.device()
        self.part = segments.restrict(draft.graph, bench.judged)
        refuse_lacking(self.part)
        self.sites = find_sites(draft.graph, bench.plan, [node.name for node in self.part.nodes])
        self.blocks = blocks_of(self.part, bench.plan, self.sites, bench.judged)
        self.pupils = Pupils(bench)
        self.done = 0

    def made(self) -> tuple[Draft, Outcome]:
        """The better draft, and what was learned."""
        before = self.pupils.errors(self.draft)
        how, bench = self.how, self.bench
        said = (bench.plan.model, bench.data.digest(), repr(how.options), str(how.seed))
        state = State.open(how.state, key_of(self.draft, *said))
        resumed = len(state.done)
        self._learn(state)
        found = [(b, r.learned) for b, r in self.results if r.learned is not None]
        kept = keep(
            [found],
            before,
            lambda items: self.pupils.errors(self._with(items)),
            self.pupils.jury.worst_fall,
            fewer(
                lambda item, output: bench.reaches(
                    (node.name for node in item[0].segment.nodes), output
                )
            ),
        )
        undone = kept.reasons(lambda item: [item[0].name])
        undone |= {b.name: r.why for b, r in self.results if r.learned is None and r.why}
        gains = {
            b.name: r.after - r.before
            for b, r in self.results
            if any(b is item[0] for item in kept.items)
        }
        better = self._with(kept.items) if kept.items else self.draft
        better, after, notes = self._polished(better, kept.after)
        if resumed:
            notes = (f"went on behind {count(resumed, 'block')} of an earlier run", *notes)
        scores = sqnr(kept.before), sqnr(after)
        return better, Outcome(TITLE, gains, undone, *scores, (*self._notes(), *notes),
                               self._facts(gains))  # fmt: skip

    def _with(self, items: Sequence[Kept]) -> Draft:
        learned = Learned()
        for _, each in items:
            learned = learned | each
        return learned.of(self.draft)

    def _learn(self, state: State) -> None:
        """Learn block after block."""
        bench, options = self.bench, self.how.options
        models = [
            BlockModel.of(b, bench.plan, self.draft, bench.insert, self.device) for b in self.blocks
        ]
        data, fitted = self.pupils.data, len(self.pupils.fit)
        walk = Walk(models, data, self.draft)
        first = {n: to_torch(x, self.device) for n, x in data.sample(0).items()}
        self.have = counts(models, first, bench.max_memory // 2, fitted)
        each = loads(models, first)
        whole = sum(load.work for load in each)
        self.steps = [steps_of(options, n, whole) for n in self.have]
        self.at_once = [self._at_once(load) for load in each]
        self.total = sum(self.steps)
        judges = range(fitted, len(data))
        for k, (model, have) in enumerate(zip(models, self.have, strict=True)):
            result = state.result(k, model.block)
            if result is None:
                del state.done[k:]
                walk.leave(i for i in range(fitted) if i >= have)
                with enough_memory(model.block, state):
                    fit, looking = walk.bring(k, range(have)), walk.bring(k, judges)
                    course = Course(self.steps[k], min(options.batch, have), self._seed(k),
                                    self._tick, self.at_once[k], each[k].shapes)  # fmt: skip
                    result = learn(model, self.draft, bench.insert, fit, looking, walk.standing(k),
                                   course)  # fmt: skip
                state.add(model.block, result)
            self.done = sum(self.steps[: k + 1])
            bench.progress(self.done, self.total)
            self.results.append((model.block, result))
            log.info("%s: %.2f -> %.2f dB", model.block.name, result.before, result.after)
            if result.learned is not None:
                walk.finish(k, result.learned)

    def _at_once(self, load: Load) -> int:
        """How many samples memory has room for in a step."""
        return max(1, self.bench.max_memory // 2 // max(1, load.bytes))

    def _seed(self, k: int) -> int:
        """The seed of a block, the same wherever a run begins."""
        return self.how.seed * 10007 + k

    def _tick(self) -> None:
        self.done += 1
        self.bench.progress(min(self.done, self.total - 1), self.total)

    def _notes(self) -> tuple[str, ...]:
        least, fitted = min(self.have), len(self.pupils.fit)
        if least == fitted:
            return ()
        return (f"the first blocks learned from {least} of {fitted} samples: more do not fit into "
                "--max-memory",)  # fmt: skip

    def _polished(self, draft: Draft, before: Errors) -> tuple[Draft, Errors, tuple[str, ...]]:
        """The draft with biases and ranges learned end to end, if the judges agree; the errors
        then; what there is to say of it."""
        if not self.how.options.polish:
            return draft, before, ()
        bench, options = self.bench, self.how.options
        whole = whole_of(self.part, bench.plan, self.sites, bench.judged)
        model = BlockModel.of(whole, bench.plan, draft, bench.insert, self.device)
        data, have = self.pupils.data, min(self.have)
        walk = Walk([model], data, draft)
        steps = max(1, max(self.steps) // POLISHING)
        (load,) = loads([model], {n: to_torch(x, self.device) for n, x in data.sample(0).items()})
        course = Course(steps, min(options.batch, have), self._seed(len(self.blocks)),
                        lambda: None, self._at_once(load), load.shapes)  # fmt: skip
        with enough_memory(whole, None):
            rows = walk.bring(0, range(have))
            judges = walk.bring(0, range(len(self.pupils.fit), len(data)))
            result = learn(model, draft, bench.insert, rows, judges, walk.standing(0), course)
        if result.learned is None:
            return draft, before, ("end to end nothing more was won",)
        better = result.learned.of(draft)
        after = self.pupils.errors(better)
        if against := self.pupils.jury.worst_fall(before, after):
            return draft, before, (f"end to end the SQNR of '{against}' did not rise",)
        return better, after, ("biases and ranges learned end to end were kept",)

    def _facts(self, kept: Mapping[str, float]) -> dict[str, object]:
        return {
            "samples": max(self.have),
            "judges": len(self.pupils.judges),
            "device": self.device,
            "torch": torch.__version__,
            "blocks": [
                {"block": b.name, "steps": steps, "samples": have, "before": round(r.before, 3),
                 "after": round(r.after, 3), "kept": b.name in kept}
                for (b, r), steps, have in zip(self.results, self.steps, self.have, strict=True)
            ],
        }  # fmt: skip


def steps_of(options: FinetuneOptions, samples: int, work: float) -> int:
    """Steps of a block that learns from so many samples; work: that of one sample in all blocks."""
    batch = min(options.batch, samples)
    if options.steps is not None:
        return options.steps
    if options.epochs is not None:
        return max(1, options.epochs * samples // batch)
    return int(min(max(WORK / max(1.0, work * batch), STEPS[0]), STEPS[1]))


@contextmanager
def enough_memory(block: Block, state: State | None) -> Iterator[None]:
    """Within it a lack of memory is an error that says what takes less."""
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        if not isinstance(e, MemoryError) and not any(word in str(e) for word in OOM):
            raise
        left = ""
        if state is not None and state.path is not None and state.done:
            left = f"; {count(len(state.done), 'finished block')} in '{state.path}': the same " \
                   "command goes on there"  # fmt: skip
        raise OnnxqError(
            f"no memory to learn the block '{block.name}'; give a smaller --batch or --max-memory"
            + left
        ) from e
