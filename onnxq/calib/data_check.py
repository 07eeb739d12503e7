"""What is wrong with calibration data, sample by sample, in one pass that keeps none of it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.calib.stats import NO_DATA, add_digests, sample_digest
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
    digests: dict[str, int] = {}
    total = NO_DATA
    for i, sample in enumerate(dataset):
        floats = [x for x in sample.values() if x.dtype.kind == "f"]
        if not all(_is_sound(x, name in masks) for name, x in sample.items()):
            nonfinite.append(i)
        elif any(x.size > 1 and (x == x.flat[0]).all() for x in floats):
            constant.append(i)
        digest = sample_digest(sample)
        if digests.setdefault(digest, i) != i:
            duplicate.append(i)
        total = add_digests(total, digest)
    return Findings(tuple(nonfinite), tuple(constant), tuple(duplicate), total)


def _is_sound(x: Array, is_mask: bool) -> bool:
    if x.dtype.kind != "f":
        return True
    finite = np.isfinite(x)
    return bool((finite | (x == -np.inf) if is_mask else finite).all())


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
