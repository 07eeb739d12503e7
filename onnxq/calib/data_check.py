"""What is wrong with calibration data, sample by sample, in one pass that keeps none of it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from onnxq.calib.data import Dataset
from onnxq.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Findings:
    """Indices of samples with NaN or infinity, with an input that is all one value, and with
    the same content as an earlier one; and the digest of all samples."""

    nonfinite: tuple[int, ...]
    constant: tuple[int, ...]
    duplicate: tuple[int, ...]
    digest: str


def examine(dataset: Dataset, masks: Collection[str] = ()) -> Findings:
    """Findings of one pass over the data; the inputs `masks` may hold -inf."""
    nonfinite, constant, duplicate = [], [], []
    first: dict[str, int] = {}
    for i, facts in enumerate(dataset.facts()):
        if not all(name in masks and name in facts.masked for name in facts.nonfinite):
            nonfinite.append(i)
        elif facts.constant and not dataset.begins(i):  # many a first state is all zeros
            constant.append(i)
        if first.setdefault(facts.digest, i) != i:
            duplicate.append(i)
    return Findings(tuple(nonfinite), tuple(constant), tuple(duplicate), dataset.digest())


def check_finite(dataset: Dataset, masks: Collection[str] = ()) -> Findings:
    """`examine`, with warnings for constant and repeated samples.

    Raises DataError that names the samples with NaN or infinite values.
    """
    findings = examine(dataset, masks)
    if findings.nonfinite:
        raise DataError(
            f"{_samples(findings.nonfinite, dataset)} NaN or infinite values; "
            "mend them, or drop them with --allow-nonfinite"
        )
    _warn(findings, dataset)
    return findings


def drop_nonfinite(dataset: Dataset, masks: Collection[str] = ()) -> Dataset:
    """The samples without NaN or infinite values; a warning names those dropped.

    Raises DataError where none is left.
    """
    findings = examine(dataset, masks)
    bad = set(findings.nonfinite)
    if len(bad) == len(dataset):
        raise DataError(f"all {len(bad)} samples hold NaN or infinite values; mend the data")
    if bad:
        log.warning("%s NaN or infinite values: dropped", _samples(findings.nonfinite, dataset))
    _warn(findings, dataset)
    return dataset.select([i for i in range(len(dataset)) if i not in bad])


def _warn(findings: Findings, dataset: Dataset) -> None:
    if findings.constant:
        log.warning("%s one value only in an input", _samples(findings.constant, dataset))
    if findings.duplicate:
        log.warning("%s the content of an earlier one", _samples(findings.duplicate, dataset))


def _samples(indices: tuple[int, ...], dataset: Dataset) -> str:
    listed = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
    noun = "sample" if len(indices) == 1 else "samples"
    verb = "holds" if len(indices) == 1 else "hold"
    return f"{noun} {listed} ({len(indices)} of {len(dataset)}) {verb}"
