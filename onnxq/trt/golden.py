"""Golden outputs: what a device should give, kept with its inputs, to judge a device without the
model.

    golden.npz    header            JSON: kind, version, samples, the parts that are judged
                  input/NAME/i      the inputs of sample i
                  float/NAME/i      what the float model gives for it, in ONNX Runtime
                  quantized/NAME/i  what the quantized model gives for it, in ONNX Runtime

A device rounds otherwise than ONNX Runtime, so its outputs are not held to be equal. It passes if
each part of its outputs is as near to the float model as the quantized model is, within `MARGIN`
over all samples and within `MARGIN_OF_ONE` in each of them. Nothing is asked beyond `ENOUGH` and
`ENOUGH_OF_ONE`: a device that computes in FP16 has no more.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxq.arrays import Array, Sample
from onnxq.calib.data import Dataset
from onnxq.calib.data_numpy import UNREADABLE
from onnxq.errors import DataError, ModelError
from onnxq.files import replacing
from onnxq.judge.accuracy import Agreement, agreement
from onnxq.judge.comparable import Equality, equality, is_float
from onnxq.judge.parts import Part, by_output, ranked_in, slices_of
from onnxq.judge.plain import plainly
from onnxq.model import graph as graphs
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.progress import Progress, silent
from onnxq.run.over import loaded
from onnxq.run.runtime import Runtime
from onnxq.saved import FileForm, value_of
from onnxq.trt.device_outputs import Outputs

MARGIN, MARGIN_OF_ONE = 3.0, 6.0  # dB: twice the noise over all samples, four times in one
ENOUGH, ENOUGH_OF_ONE = 40.0, 30.0  # dB
FORM = FileForm(
    "onnxq.golden", 1, DataError,
    absent="no golden outputs at '{path}'; 'onnxq compare --save-golden' writes them",
    other="'{path}' holds no golden outputs this version reads: {found}",
    broken="'{path}' is not a file of golden outputs or is cut short ({class}: {why}); "
    "'onnxq compare --save-golden' writes one",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A part of a device's outputs. device: against the float model; quantized: of the quantized
    model against it, in ONNX Runtime. required_db: what the device has to have.

    worst: the sample that is furthest below what it has to have, with the SQNR that it has and has
    to have.
    """

    device: Agreement
    quantized: Agreement
    worst: tuple[int, float, float]

    @property
    def required_db(self) -> float:
        """The least SQNR over all samples."""
        return min(self.quantized.sqnr_db - MARGIN, ENOUGH)

    def failure(self, name: str) -> str | None:
        """What the device misses, in a line."""
        found, (i, has, needs) = self.device.sqnr_db, self.worst
        if not found >= self.required_db:
            return (f"{name}: {found:.2f} dB on the device, {self.quantized.sqnr_db:.2f} in ONNX "
                    f"Runtime; at least {self.required_db:.2f} is asked for")  # fmt: skip
        if not has >= needs:
            return (f"{name}: sample {i} has {has:.2f} dB on the device, at least {needs:.2f} is "
                    "asked for")  # fmt: skip
        return None


@dataclass(frozen=True)
class Verdict:
    """What came back from a device, held against golden outputs. exact: outputs that are compared
    by equality, on the device and in ONNX Runtime; both against the float model."""

    samples: int
    parts: Mapping[str, Judged]
    exact: Mapping[str, tuple[Equality, Equality]]

    @property
    def failures(self) -> list[str]:
        """Lines that say why the answer is no."""
        found = [line for name, part in self.parts.items() if (line := part.failure(name))]
        for name, (device, quantized) in self.exact.items():
            if device.share < quantized.share - 0.01:
                found.append(f"{name}: {100 * device.share:.2f}% of its values are the float "
                             f"model's, {100 * quantized.share:.2f}% in ONNX Runtime")  # fmt: skip
        return found

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {
            "samples": self.samples,
            "parts": {
                name: {
                    "device_db": part.device.sqnr_db, "quantized_db": part.quantized.sqnr_db,
                    "required_db": part.required_db, "worst_sample": part.worst[0],
                    "worst_sample_db": part.worst[1], "worst_sample_required_db": part.worst[2],
                } for name, part in self.parts.items()
            },
            "exact": {n: {"device": d.share, "quantized": q.share}
                      for n, (d, q) in self.exact.items()},
            "failures": self.failures,
        }  # fmt: skip


def save(
    reference: Path,
    quantized: Path,
    dataset: Dataset,
    out: Path,
    runtime: Runtime | None = None,
    progress: Progress = silent,
) -> int:
    """Write inputs and outputs of both models, sample by sample; how many samples.

    Raises ModelError for models whose outputs differ, and for one whose outputs are no numbers.
    """
    parts = slices_of(apply(graphs.load(reference), infer_shapes))
    plainly(lambda where: _save((reference, quantized), dataset, out, parts, where, progress),
            runtime)  # fmt: skip
    return len(dataset)


def _save(
    models: tuple[Path, Path],
    dataset: Dataset,
    out: Path,
    parts: Sequence[Part],
    runtime: Runtime,
    progress: Progress,
) -> None:
    runs = [loaded(path, runtime) for path in models]
    if missing := [name for name in runs[0].outputs if name not in runs[1].outputs]:
        raise ModelError(f"'{models[1]}' has no output '{missing[0]}', which '{models[0]}' has; "
                         "give a model and its own quantized form")  # fmt: skip
    with keeping(out, len(dataset), parts, runs[0].outputs) as keep:
        for i in range(len(dataset)):
            sample = dataset.sample(i)
            keep(i, sample, runs[0](sample), runs[1](sample))
            progress("golden", i + 1, len(dataset))


Keep = Callable[[int, Sample, Mapping[str, Any], Mapping[str, Any]], None]


@contextmanager
def keeping(
    out: Path, samples: int, parts: Sequence[Part], outputs: Sequence[str]
) -> Iterator[Keep]:
    """A golden file to put samples into: number, inputs, and the outputs of the float and of the
    quantized model, of which those named `outputs` are kept. It is there when all are in it."""
    header = {**FORM.head(), "samples": samples, "parts": [asdict(p) for p in parts]}
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("header.json", json.dumps(header))

        def keep(i: int, sample: Sample, ref: Mapping[str, Any], test: Mapping[str, Any]) -> None:
            _put(file, "input", i, sample)
            for side, found in (("float", ref), ("quantized", test)):
                _put(file, side, i, {name: found[name] for name in outputs})

        yield keep


def _put(file: zipfile.ZipFile, side: str, i: int, arrays: Mapping[str, Any]) -> None:
    for name, values in arrays.items():
        x = np.asarray(values)
        if x.dtype.kind in "fiub":  # a sequence or text is no array of numbers
            with file.open(f"{side}/{name}/{i}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, x, allow_pickle=False)


@dataclass(frozen=True)
class Golden:
    """A file of golden outputs, opened. names, inputs: of outputs and inputs. parts: that
    are judged."""

    path: Path
    samples: int
    parts: tuple[Part, ...]
    names: tuple[str, ...]
    inputs: tuple[str, ...] = ()

    def all_of(self, side: str, i: int) -> dict[str, Array]:
        """All arrays of a sample on a side, by name."""
        names = self.inputs if side == "input" else self.names
        return {name: self.read(side, name, i) for name in names}

    def read(self, side: str, name: str, i: int) -> Array:
        """An array of a sample: side "input", "float" or "quantized"."""

        def of(path: Path) -> Array:
            with np.load(path, allow_pickle=False) as file:
                return np.asarray(file[f"{side}/{name}/{i}"])

        return FORM.read(self.path, of, UNREADABLE)


def load(path: str | Path) -> Golden:
    """Open golden outputs; raises DataError for a file that holds none."""

    def of(path: Path) -> Golden:
        with zipfile.ZipFile(path) as file:
            header = json.loads(file.read("header.json"))
            listed = file.namelist()
        FORM.check(header, path)
        names, inputs = (
            dict.fromkeys(
                n.split("/", 1)[1].rpartition("/")[0] for n in listed if n.startswith(side)
            )
            for side in ("float/", "input/")
        )
        parts = tuple(value_of(Part, {"ranked": None} | part) for part in header["parts"])
        return Golden(path, int(header["samples"]), parts, tuple(names), tuple(inputs))

    return FORM.read(Path(path), of, (*UNREADABLE, zipfile.BadZipFile, NotImplementedError))


def judge(golden: Golden, outputs: Outputs) -> Verdict:
    """What a device gave for the golden inputs. Raises DataError for outputs that are not those of
    the same samples and of the same shapes."""
    if outputs.samples != golden.samples:
        raise DataError(f"'{outputs.path}' holds {outputs.samples} samples, '{golden.path}' "
                        f"{golden.samples}; run the device on all golden inputs")  # fmt: skip
    if missing := [name for name in golden.names if name not in outputs.names]:
        raise DataError(f"'{outputs.path}' has no output '{missing[0]}'; it has "
                        f"{', '.join(outputs.names)}")  # fmt: skip
    parts: dict[Part, list[tuple[Agreement, Agreement]]] = {}
    exact: dict[str, tuple[Equality, Equality]] = {}
    of = by_output(golden.parts)
    for name in golden.names:
        for i in range(golden.samples):
            (ref, back), (like, kept) = _sides(golden, outputs, name, i)
            if not is_float(ref):
                now = equality(ref, back), equality(like, kept)
                exact[name] = (exact[name][0] + now[0], exact[name][1] + now[1]) \
                    if name in exact else now  # fmt: skip
            for part in of.get(name, ()) if is_float(ref) else ():
                pair = [(part.of(a), part.of(b)) for a, b in ((ref, back), (like, kept))]
                parts.setdefault(part, []).append((agreement(*pair[0]), agreement(*pair[1])))
    return Verdict(golden.samples, {p.name: _judged(pairs) for p, pairs in parts.items()}, exact)


def _sides(
    golden: Golden, outputs: Outputs, name: str, i: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """An output of float and of the device in sample i, and of float and quantized; with the same
    rows at the same places where a TopK orders them."""
    group = next((g for g in ranked_in(golden.parts) if name in {r.output for r in g.rows}), None)
    names = [name] if group is None else [r.output for r in group.rows]
    ref, kept = ({n: golden.read(side, n, i) for n in names} for side in ("float", "quantized"))
    back = {n: outputs.read(n, i, ref[n].shape) for n in names}
    if group is None:
        return (ref[name], back[name]), (ref[name], kept[name])
    one, other = (group.lined_up(ref, side) for side in (back, kept))
    return (one[0][name], one[1][name]), (other[0][name], other[1][name])


def _judged(pairs: Sequence[tuple[Agreement, Agreement]]) -> Judged:
    device, quantized = (sum((pair[k] for pair in pairs[1:]), pairs[0][k]) for k in (0, 1))
    ones = [
        (i, a.sqnr_db, min(b.sqnr_db - MARGIN_OF_ONE, ENOUGH_OF_ONE))
        for i, (a, b) in enumerate(pairs)
    ]
    return Judged(device, quantized, min(ones, key=lambda one: _below(one[1], one[2])))


def _below(has: float, needs: float) -> float:
    """How far beyond what it has to be; what is not a number is worse than any."""
    gap = has - needs
    return -math.inf if math.isnan(gap) else gap
