"""Workers that count samples, one at a time, and what is to be counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

import numpy as np

from onnxq.arrays import Array, Samples
from onnxq.calib.checkpoint import Checkpoint
from onnxq.calib.data import Dataset
from onnxq.calib.device_counts import Counters, DeviceAccumulator
from onnxq.calib.histogram import EMPTY, Accumulator, Histogram, merge
from onnxq.calib.stats import NO_DATA, Stats, add_digests, sample_digest
from onnxq.progress import Count
from onnxq.run.program import Program, Runner

SHARE = 8  # of a worker's share of the samples: as little as it takes at a time


@dataclass
class Task:
    """What is to be counted, and what an earlier run has counted. gate: closed while workers are to
    wait between two samples."""

    data: Samples
    checkpoint: Checkpoint | None
    progress: Count | None
    model: str
    tensors: tuple[str, ...]
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def portions(self, missing: Sequence[int], workers: int) -> list[list[int]]:
        """What a worker takes at a time: a sample, or small ones that lie side by side."""
        if not isinstance(self.data, Dataset):
            return [[i] for i in missing]
        most = max(1, len(missing) // (SHARE * workers))
        runs = self.data.together(missing)
        return [run[k : k + most] for run in runs for k in range(0, len(run), most)]

    def read(self, portion: Sequence[int]) -> tuple[dict[str, Array], list[str]]:
        """The samples of a portion, one behind the other, and their digests."""
        if isinstance(self.data, Dataset):
            block = self.data.block(portion)
            return block, [facts.digest for facts in self.data.noted(portion, block)]
        sample = self.data.sample(portion[0])
        block = {name: np.asarray(x, order="C")[None] for name, x in sample.items()}
        return block, [sample_digest(sample)]

    def missing(self) -> Sequence[int]:
        """The samples that no earlier run has counted."""
        if self.checkpoint is None:
            return range(len(self.data))
        return self.checkpoint.missing(self.data)

    def save_if_due(self, crew: Sequence[Worker]) -> None:
        """Write a checkpoint if it is time, while all workers wait."""
        if self.checkpoint is not None and self.checkpoint.due:
            self.gate.clear()
            try:
                with ExitStack() as stack:
                    for worker in crew:  # each at the end of the sample that it is counting
                        stack.enter_context(worker.lock)
                    if not all(worker.whole for worker in crew):
                        return  # one failed in the middle of a sample; its error is on the way
                    done = sum((worker.done for worker in crew), self.checkpoint.done)
                    self.checkpoint.save(self.stats(crew), done)
            finally:
                self.gate.set()

    def stats(self, crew: Sequence[Worker], final: bool = False) -> Stats:
        """What all workers, and an earlier run, counted; in the end they forget it."""
        begun = self.checkpoint.begun if self.checkpoint else None
        place, counted = crew[0].program.place, {}
        for tensor in dict.fromkeys(place.values()):
            seen = (w.take(tensor) if final else w.counts[tensor].histogram() for w in crew)
            counted[tensor] = merge(*seen)
        histograms = {
            name: counted[place[name]] if name in place else EMPTY for name in self.tensors
        }
        if begun is not None:
            histograms = {name: merge(h, begun[name]) for name, h in histograms.items()}
        samples = sum(w.done.total() for w in crew)
        digest = add_digests(NO_DATA, *(d for w in crew for d in w.done.elements()))
        found = Stats(self.model, histograms, samples, digest)
        if begun is None:
            return found
        return replace(
            found, samples=samples + begun.samples, data=add_digests(found.data, begun.data)
        )


class Worker:
    """Counts samples, one at a time."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.lock = threading.Lock()  # held while a portion is counted
        self.last = False  # whether no samples come after those that are counted
        self.done: Counter[str] = Counter()
        self.whole = True  # whether what is counted are whole samples
        on = program.counters
        self.counts = {
            place: DeviceAccumulator(on) if isinstance(on, Counters) else Accumulator()
            for place in program.place.values()
        }
        self.runner = Runner(program)

    def take(self, tensor: str) -> Histogram:
        """What was counted of a tensor since the last time; the `last` time its counter is given
        back."""
        counter = self.counts[tensor]
        if self.last:
            del self.counts[tensor]
        if isinstance(counter, Accumulator):
            return counter.histogram() if self.last else counter.take()
        found = counter.histogram()
        if not self.last:
            self.counts[tensor] = DeviceAccumulator(counter.counters)
        return found

    def observe(
        self, block: Mapping[str, Array], digests: Sequence[str], stop: threading.Event
    ) -> None:
        """Run the samples with these `digests`, one behind the other in `block`, and count them;
        returns early, having counted in part, on `stop`."""
        with self.lock:
            live = self.program.checked(block)
            self.whole = False
            self._count(live)
            for values in self.runner.run_block(live, len(digests)):
                self._count(values)
                if stop.is_set():
                    return
            self.done.update(digests)
            self.whole = True

    def _count(self, values: Mapping[str, Array]) -> None:
        for name, value in values.items():
            if name in self.counts:
                self.counts[name].observe(value)


def run_crew(program: Program, task: Task, workers: int, hired: list[Worker]) -> list[Worker]:
    """Workers that have counted all samples between them that were missing: those who have run the
    program before, and others, who are added to them."""
    missing, total = task.missing(), len(task.data)
    size = max(1, min(workers, len(missing)))
    hired += [Worker(program) for _ in range(size - len(hired))]
    crew = hired[:size]
    for worker in crew:
        worker.done.clear()
    todo, stop = iter(task.portions(missing, len(crew))), threading.Event()
    events: SimpleQueue[BaseException | int] = SimpleQueue()
    with ThreadPoolExecutor(len(crew), "calibrate") as pool:
        try:
            for worker in crew:
                pool.submit(_work, worker, task, todo, stop, events)
            done = total - len(missing)
            while done < total:
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                for _ in range(event):
                    done += 1
                    if task.progress is not None:
                        task.progress(done, total)
                task.save_if_due(crew)
        finally:
            stop.set()
    return crew


def _work(
    worker: Worker,
    task: Task,
    todo: Iterator[list[int]],
    stop: threading.Event,
    events: SimpleQueue[BaseException | int],
) -> None:
    """Take portions until there are none; an event is a number of samples done, or what went
    wrong."""
    try:
        while not stop.is_set() and (portion := next(todo, None)) is not None:
            task.gate.wait()
            worker.observe(*task.read(portion), stop)
            events.put(len(portion))
    except BaseException as e:  # surfaces in the calling thread
        events.put(e)
