"""The figures of detectors as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from detections import CONFIDENT, Alike
from markdown import table

FIRST = "val"  # the folder that everything is scored on


def pooled(folds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The means over the folds; errors of independent folds add up as squares do."""
    rows = list(folds.values())
    keys = [k for k in rows[0] if k not in ("alike", "error")]
    found = {k: float(np.mean([row[k] for row in rows])) for k in keys}
    if "error" in rows[0]:
        found["error"] = float(np.sqrt(np.sum([r["error"] ** 2 for r in rows])) / len(rows))
    return found


def agreement(folds: dict[str, dict[str, Any]]) -> Alike:
    """The agreement over all folds."""
    return Alike.of([pair for split in folds for pair in folds[split]["alike"]])


def rows_of(title: str, found: dict[str, Any]) -> Iterator[list[str]]:
    """The rows of a detector; one with every image for what was scored on both folders."""
    for variant, folds in found.items():
        yield _row(title, variant, {FIRST: folds[FIRST]}, {FIRST: found["default"][FIRST]})
        if len(folds) > 1:
            yield _row(title, variant, folds, found["default"])


def _row(
    title: str, variant: str, folds: dict[str, Any], plain: dict[str, dict[str, Any]]
) -> list[str]:
    figures, agreed = pooled(folds), agreement(folds)
    whole, gap, apart = "-", "-", "-"
    if "map" in figures:
        whole = f"{figures['map']:.2f}"
        gap = f"{figures['map'] - figures['float']:+.2f} ± {figures['error']:.2f}"
    if variant != "default" and plain.keys() == folds.keys():
        apart = "{:+.1f} ± {:.1f}".format(*(100 * x for x in agreed.beyond(agreement(plain))))
    decibels = f"{figures['boxes_db']:.1f} / {figures['classes_db']:.1f}"
    count = str(len(agreed.each))
    return [title, variant, count, whole, gap, str(agreed), apart, decibels,
            f"{figures['macs']:.0f}%"]  # fmt: skip


INTRO = f"""# Detectors

Where detectors lose in INT8, and what does not help. Written by `benchmarks/detectors.py`;
do not edit. Every variant is `onnxq quantize` with the options of the script, over the defaults.

An agreement is that of detections: same class, IoU of 0.9 or more, one to one, of what scores above
{CONFIDENT} and is left by NMS. It is a steadier judge than mAP. Differences are paired: standard
errors over the same images, of mAP by bootstrap. The difference of an agreement is that from the
default. Of 128 images 64 are calibrated on to score the other 64, and the reverse; mAP and dB are
the means of both.
"""


ENDS = """## What it says

- **Class scores of the YOLOs lose in the backbone, not in the head.** With the head alone in INT8
  they have 24 to 26 dB, with the backbone alone 16. A float class branch brings 0.7 dB; the last
  Convs, which Ultralytics leaves float, 0.1 to 0.2. NudeNet is another case: its head loses as
  much as its backbone, and its last Convs alone 1.6 dB.
- **No layer is to blame.** In the ranking of YOLO11n (`onnxq sensitivity`, 8 samples) the second
  product of its attention makes a fifth of the noise, 19 ± 12%, and no other node a tenth. With
  its attention float the classes gain 0.2 dB.
- **mAP of 64 images does not rank variants.** Float activations keep 98% of the detections of
  YOLO11n, against 90, and measure a lower mAP than INT8. The agreement goes with the decibels.
- **The last Convs of classes in float** keep 1.7 ± 0.8% more detections of YOLOv8n and 0.1 ± 0.7%
  of YOLO11n, for 1 to 2% of the multiply-accumulates: `--skip '*cv3.[0-2].2/Conv'`. One of two is
  no reason for a default. Nothing else that keeps the coverage is better beyond its spread, so no
  default was changed.

## To repeat

```
pip install -e '.[cpu]' pillow
python benchmarks/detectors.py --shared ../shared --packages packages --write docs/detectors.md
python benchmarks/detectors.py --models yolo11n --variants default   # one piece anew
```

NudeNet's wheel is got by pip and unpacked into `packages/nudenet-3.4.2`; it has no labels, so it
has no mAP.
"""


def page(detectors: Sequence[tuple[str, bool, dict[str, Any]]]) -> str:
    """The page of detectors: title, whether it has labels, figures by variant and fold."""
    head = ["detector", "variant", "images", "mAP50-95", "from float", "agreement", "from default",
            "dB boxes / classes", "MACs in INT8"]  # fmt: skip
    rows = []
    for title, _, found in detectors:
        if "float" in (figures := pooled(found["default"])):
            count = str(len(agreement(found["default"]).each))
            rows.append([title, "float", count, f"{figures['float']:.2f}", *["-"] * 5])
        rows += rows_of(title, found)
    return "\n".join([INTRO, table(head, rows), *_means(detectors), ENDS])


def _means(detectors: Sequence[tuple[str, bool, dict[str, Any]]]) -> Iterator[str]:
    """What the default loses on the average over the detectors with labels."""
    found = [pooled(rows["default"]) for _, labelled, rows in detectors if labelled]
    gap = float(np.mean([f["map"] - f["float"] for f in found]))
    error = float(np.sqrt(sum(f["error"] ** 2 for f in found))) / len(found)
    yield (f"On the average over the {len(found)} detectors with labels the default is "
           f"{gap:+.2f} ± {error:.2f} mAP from float; at most 0.3 below was asked.\n")  # fmt: skip
