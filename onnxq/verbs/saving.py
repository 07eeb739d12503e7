"""What is written for others, and read back: prepared models, data, statistics, pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxq.calib.holdout import held_out
from onnxq.calib.stats import Stats, merge
from onnxq.errors import DataError
from onnxq.model import graph as graphs
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source, open_model
from onnxq.pipeline.steps import data, picked, prepare, signatures_of
from onnxq.progress import Progress, silent, stage, told

if TYPE_CHECKING:
    from onnxq.calib.signatures import Signatures
    from onnxq.report.html.gathering import Sources


@stage("write")
def write_prepared(source: Source, out: str | Path) -> None:
    """Write a prepared model as it is planned."""
    graphs.save(source.graph, out, source.file.metadata)


@stage("merge")
def merge_stats(paths: Iterable[str | Path]) -> Stats:
    """The sum of saved statistics of shards: exactly those of one run over all the data."""
    return merge(*(Stats.load(path) for path in paths))


@told
def write_data(
    model: str | Path,
    calib: Sequence[str],
    out: str | Path,
    config: Config | None = None,
    check_samples: int | None = None,
    *,
    pick: int | None = None,
    signatures: Sequence[Path] = (),
    progress: Progress = silent,
) -> int:
    """Check calibration data against a model and write it for another tool; how many samples.

    out: .json for Polygraphy's --load-inputs, .py for its --data-loader-script, .npz, or the name
    of a folder, which has a .npz a sample. The samples that `config` chooses; of these, those that
    a run with `check_samples` holds out, or `pick` of them that stand for all. signatures: files of
    what is known of samples (see `sign_data`). Raises DataError for another suffix, and for a
    choice of samples in a script.
    """
    from onnxq.calib.writing import write_samples
    from onnxq.trt import polygraphy_data

    config, out = config or Config(), Path(out)
    if out.suffix not in (".json", ".py", ".npz", ""):
        raise DataError(f"'{out}' names no form; end it in .json, .py or .npz, or name a folder")
    if out.suffix == ".py" and (config.samples or check_samples or pick):
        raise DataError(f"'{out}' would load every sample; write .json or .npz to choose samples")
    if out.suffix == ".py" and config.preprocess:
        raise DataError(f"'{out}' would not preprocess images; write .json or .npz")
    if out.suffix == ".py" and config.feedback:
        raise DataError(f"'{out}' would feed nothing back; write .json or .npz")
    if pick and check_samples:
        raise DataError("--pick and --check-samples both choose samples; give one of them")
    dataset = data(open_model(model), calib, config)
    if check_samples is not None:
        dataset = held_out(dataset, check_samples)[1]
    if pick is not None:
        known = signatures_of(prepare(model, config), dataset, config, signatures, progress)
        dataset = picked(dataset, known, pick)
    if out.suffix == ".json":
        polygraphy_data.save_json(dataset, out)
    elif out.suffix == ".py":
        polygraphy_data.save_script(Path(model), calib, out)
    else:
        write_samples(dataset, out)
    return len(dataset)


@told
def sign_data(
    model: str | Path,
    calib: Sequence[str],
    config: Config | None = None,
    files: Sequence[Path] = (),
    progress: Progress = silent,
) -> Signatures:
    """Signatures of all samples, by which some are picked that stand for all.

    files: those that are there are read, and samples that they know are not run; what is new is
    added to the first of them. So shards of the data are run apart, and put together by naming
    the files of all.
    """
    config = config or Config()
    source = prepare(model, config)
    return signatures_of(source, data(source, calib, config), config, files, progress)


@stage("report")
def write_report(
    model: str | Path,
    out: str | Path,
    sources: Sources | None = None,
    commands: tuple[str, ...] = (),
    badge: Path | None = None,
    markdown: Path | None = None,
) -> None:
    """Write one self-contained HTML page about a model with Q/DQ.

    sources: files to take in besides. commands: what made it, to show. badge, markdown: files for
    the verdict as a small SVG, and for a summary. All are written or none. Raises OnnxqError for
    files that are not what they should be, or were made for another model.
    """
    from onnxq.report.html.gathering import Sources, gather
    from onnxq.report.html.page import write_forms

    evidence = gather(Path(model), sources or Sources(), commands)
    write_forms(evidence, Path(out), badge, markdown)
