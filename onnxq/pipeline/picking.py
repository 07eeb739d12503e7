"""The step that picks a few samples that stand for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnxq.calib.data import Dataset, digests
from onnxq.calib.observed import observed
from onnxq.calib.pick import pick
from onnxq.calib.signatures import Signatures, merge, sign
from onnxq.pipeline.config import Config
from onnxq.pipeline.planning import plan, refuse_unsound
from onnxq.pipeline.runtimes import runtime_of
from onnxq.pipeline.source import Source
from onnxq.progress import Progress, count, silent, stage, told


@told
def signatures_of(
    source: Source,
    dataset: Dataset,
    config: Config,
    files: Sequence[Path] = (),
    progress: Progress = silent,
) -> Signatures:
    """The signatures of all samples, at the tensors that the default plan quantizes.

    files: those that are there are read, and what they know is not run again; what is new goes
    into the first of them, with all that is known. Raises DataError for files of another model.
    """
    chosen = plan(source, config)
    refuse_unsound(chosen, source)
    tensors = observed(source.graph, chosen)
    saved = [Signatures.load(file) for file in files if file.exists()]
    known = merge(*saved) if saved else None
    if known is not None:
        known.check(source.sha256, tensors)
    with stage("pick"):
        found = sign(
            source.graph,
            tensors,
            dataset,
            model=source.sha256,
            runtime=runtime_of(config),
            workers=config.workers,
            progress=count,
            known=known,
        )
    if files and (len(saved) > 1 or known is None or len(found) > len(known)):
        found.save(files[0])
    return found.of(digests(dataset))


def picked(dataset: Dataset, signatures: Signatures, number: int) -> Dataset:
    """`number` of the samples, the most telling first; raises DataError where there are fewer."""
    place = {digest: i for i, digest in reversed(list(enumerate(digests(dataset))))}
    return dataset.select([place[digest] for digest in pick(signatures, number)])
