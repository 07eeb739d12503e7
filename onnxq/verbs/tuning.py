"""A goal in place of options: from a model file to the cheapest quantized model that meets it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from onnxq import __version__, files
from onnxq.calib.holdout import spared
from onnxq.cost.pricing import Price
from onnxq.errors import OnnxqError, PlanError
from onnxq.finetune.options import FinetuneOptions
from onnxq.json_text import to_json
from onnxq.model.model_file import ModelLike
from onnxq.pipeline.comparing import FloatSide
from onnxq.pipeline.config import Config
from onnxq.pipeline.keywords import Keywords, composed
from onnxq.pipeline.method_choice import is_auto
from onnxq.pipeline.opened import Opened
from onnxq.pipeline.quantize import write
from onnxq.pipeline.reading import CalibrationData
from onnxq.pipeline.source import prepare
from onnxq.pipeline.steps import data
from onnxq.plan import Plan
from onnxq.progress import Progress, silent
from onnxq.progress import told as tells
from onnxq.schemes import file_name
from onnxq.verbs.evaluation import Evaluation

if TYPE_CHECKING:
    from onnxq.calib.data import Dataset
    from onnxq.ladder import Climb, Goal, Row, Tuned
    from onnxq.ladder.judging import Judge

SHARE = 4  # one sample in so many judges, where a figure needs many
MOST = 128  # samples that are compared on: their float outputs are kept
FREE = ("cache", "workers", "max_memory", "external_data")  # options that leave figures as they are
RECORD, STATE = "tune.json", ".state"


@tells
def tune(
    model: ModelLike,
    calib: CalibrationData,
    goal: Goal,
    config: Config | None = None,
    *,
    evaluation: Evaluation | None = None,
    folder: str | Path | None = None,
    cost: str = "ops",
    layers: str | Path | None = None,
    rates: str | None = None,
    plan_from: Plan | None = None,
    learning: FinetuneOptions | None = None,
    ladder: Sequence[Row] | None = None,
    told: Callable[[Tuned], None] = lambda tuned: None,
    progress: Progress = silent,
    **options: Unpack[Keywords],
) -> Tuned:
    """The cheapest way to quantize a model that meets a goal, by climbing from the default.

    model, calib, config, options: as of `quantize`. evaluation: what judges; without it samples
    held out of `calib`, that take part in nothing else. folder: where the model that is taken goes,
    with its manifest, plan and configuration, and the record; a run that was killed goes on there,
    and one that is finished is read. cost, layers, rates: as in a search. learning: how much
    `finetune` learns. ladder: its rows, by default `onnxq.ladder.LADDER`. told: called with what
    there is after every rung.

    Where the goal is not met, the best is taken and `holds` is false. Raises OnnxqError for
    whatever the user can mend.
    """
    from onnxq.ladder import LADDER

    on, record = _begun(model, calib, goal, composed(config, options), evaluation or Evaluation(),
                        Price(cost, None if layers is None else Path(layers), rates),
                        plan_from, learning or FinetuneOptions())  # fmt: skip
    where = None if folder is None else Path(folder)
    if where is not None and (finished_before := _going_on(on, record, where)) is not None:
        return finished_before

    def finished(tuned: Tuned) -> None:
        if where is not None:
            files.write_text(where / RECORD, tuned.to_json())
        told(tuned)

    on.told = finished
    found = _climbed(on, ladder or LADDER, where)
    return found if where is None else _written(found, on, where)


def _climbed(on: Climb, ladder: Sequence[Row], folder: Path | None) -> Tuned:
    """What the climb found; where it fails with nothing to go on with, its folder goes."""
    from onnxq.ladder import climb

    try:
        return climb(ladder, on)
    except OnnxqError:
        if folder is not None and not on.record.rungs:  # nothing to go on with
            shutil.rmtree(folder / STATE, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _going_on(on: Climb, record: Tuned, folder: Path) -> Tuned | None:
    """What a finished run left in the folder; otherwise the climb goes on with its rungs there."""
    before = _there(folder, record.key)
    if before is not None and before.chosen is not None and _model_of(folder).is_file():
        return before
    on.before = before.rungs if before is not None else ()
    on.folder = on.opened.folder = folder / STATE
    on.folder.mkdir(parents=True, exist_ok=True)
    files.LEFT.kept[folder] = None
    return None


def _begun(
    model: ModelLike,
    calib: CalibrationData,
    goal: Goal,
    config: Config,
    evaluation: Evaluation,
    price: Price,
    plan_from: Plan | None,
    learning: FinetuneOptions,
) -> tuple[Climb, Tuned]:
    """The climb at its foot; whatever the user has to mend is raised here."""
    from onnxq.cost.counted import MEASURED
    from onnxq.ladder import Climb, Tuned

    if price.model in MEASURED:
        raise PlanError(f"cost '{price.model}' is measured, which tune does not; choose ops, "
                        "bytes, size, roofline:DEVICE or PROFILE.json")  # fmt: skip
    if is_auto(config):  # the ladder tries the methods itself
        config = replace(config, method=Config().method)
    source = prepare(model, config, plan_from)
    price.check(source.graph)
    opened = Opened.of(source, calib, config)
    opened, judge = _judged(opened, goal, config, evaluation)
    opened.keeps = True
    judge.check()
    seen = "" if opened.apart else "that calibrate too"
    judged = judge.samples if goal.runs_again else opened.check
    key = _key(judge, plan_from, price, learning)
    record = Tuned(key, source.sha256, str(goal), goal.scored_by, goal.higher_is_better,
                   judge.reference, price.model, len(judged), seen)  # fmt: skip
    return Climb(opened, judge, config, record, (), plan_from, learning=learning,
                 price=price), record  # fmt: skip


def _judged(
    opened: Opened, goal: Goal, config: Config, evaluation: Evaluation
) -> tuple[Opened, Judge]:
    """The model with the samples that judge, and who judges by them.

    Raises DataError for labels that do not fit, PlanError where nothing is there to judge by.
    """
    from onnxq.ladder.judging import Judge

    full, judges, apart, rest = opened.dataset, opened.check, opened.apart, opened.rest
    if evaluation.data:
        full = data(opened.source, evaluation.data, replace(config, samples=None))
        judges, rest, apart = full, *_without(opened.dataset, full)
    elif goal.runs_again:
        rest, judges, apart = _quarter(full)
    if not len(judges):
        raise PlanError("--check-samples 0 holds out nothing to judge by; give --eval DATA")
    if evaluation.samples is not None:
        judges = judges.beginnings(evaluation.samples, config.seed)
    if evaluation.labels is not None and goal.scored_by != "top1":
        raise PlanError("--labels are for --max-drop with --metric top1; leave one of them out")
    labels = evaluation.labels_of(full, judges)
    check = judges.beginnings(MOST) if len(judges) > MOST else judges
    side = FloatSide(opened.source, check)
    opened = replace(opened, rest=rest, check=check, apart=apart, side=side)
    return opened, Judge(goal, opened, judges, config, labels)


def _without(dataset: Dataset, judges: Dataset) -> tuple[Dataset, bool]:
    """(the samples that do not judge, whether there are any); all of them where there are none."""
    taken = {facts.digest for facts in judges.facts()}
    rest = [i for i, facts in enumerate(dataset.facts()) if facts.digest not in taken]
    return (dataset.select(rest), True) if rest else (dataset, False)


def _quarter(dataset: Dataset) -> tuple[Dataset, Dataset, bool]:
    """(the others, a quarter of the samples by what they hold, whether they are apart)."""
    chosen = spared(dataset, len(dataset), len(dataset) // SHARE)
    if not chosen:
        return dataset, dataset, False
    rest = set(range(len(dataset))).difference(chosen)
    return dataset.select(sorted(rest)), dataset.select(sorted(chosen)), True


def _key(judge: Judge, plan_from: Plan | None, price: Price, learning: FinetuneOptions) -> str:
    """A digest of everything that figures depend on."""
    opened = judge.opened
    settings = {name: v for name, v in judge.config.flat().items() if name not in FREE}
    said = [
        __version__, opened.source.sha256, opened.dataset.digest(), judge.samples.digest(),
        asdict(judge.goal), settings, *price.said(), asdict(learning),
        None if plan_from is None else plan_from.to_yaml(),
        None if judge.labels is None else judge.labels.tolist(),
    ]  # fmt: skip
    return hashlib.sha256(to_json(said, indent=None).encode()).hexdigest()


def _there(folder: Path, key: str) -> Tuned | None:
    """What an earlier run left in a folder; raises OnnxqError for what is another's."""
    from onnxq.ladder import Tuned

    if folder.exists() and not folder.is_dir():
        raise OnnxqError(f"'{folder}' is a file; name a folder")
    if not (folder / RECORD).is_file():
        if folder.is_dir() and any(path.name != STATE for path in folder.iterdir()):
            raise OnnxqError(f"'{folder}' holds other files; name a folder that does not exist")
        return None
    before = Tuned.load(folder / RECORD)
    if before.key != key:
        raise PlanError(
            f"'{folder}' holds the tuning of another model, other data or options; name another "
            "folder, or delete it to start over"
        )
    return before


def _model_of(folder: Path) -> Path:
    """The model that a finished run wrote."""
    return next(iter(sorted(folder.glob("*.onnx"))), folder / "model.onnx")


def _written(found: Tuned, on: Climb, folder: Path) -> Tuned:
    """The model that was taken, its manifest, plan and configuration, and the record."""
    assert found.taken is not None
    assert found.result is not None
    config = on.config_of(found.taken)
    path = folder / file_name(on.opened.source.path.stem, config.placement.scheme)
    with files.together():
        result = write(found.result, path, config)
        result.plan.save(folder / "plan.yaml")
        config.save(folder / "config.yaml")
        files.write_text(folder / RECORD, found.to_json())
    shutil.rmtree(folder / STATE, ignore_errors=True)
    return replace(found, result=result)
