"""The bars: what the figures have to reach, each with pass or miss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Results = dict[str, dict[str, Any]]

SQNR = {"efficientnet_lite0": 19.0, "resnet20": 26.0}  # dB
METRIC = {"efficientnet_lite0": 0.5, "yolo11n": 0.8, "yolov8n": 0.8}  # points below float
LEAST_DEFAULT = {"efficientnet_lite0": 22.5, "resnet20": 27.5}  # dB
LEAST_ALL = {"efficientnet_lite0": 23.5, "minilm_l3": 25.0}
RECOVERED = {"yolo11n": 0.6}  # points below float
FALL = 0.1  # dB that counts as no worse
MIXED = 3.0  # points
TIMES, SECONDS, MEMORY, GROWTH = 3.0, 2.0, 2.5, 1.05
REST = {"int8": "FP32", "fp16": "FP16"}
NAMES = {"top1": "top-1", "mAP50-95": "mAP50-95", "spearman": "Spearman"}


@dataclass(frozen=True)
class Bar:
    """One bar: the model's title, what is asked, what was measured, and whether that is enough."""

    model: str
    asked: str
    measured: str
    passed: bool


def bars(results: Results, titles: dict[str, str]) -> list[Bar]:
    """Every bar that the results can be held against, missed ones first."""
    found = [
        bar for name, parts in results.items() for bar in _of(name, titles.get(name, name), parts)
    ]
    return sorted(found, key=lambda bar: bar.passed)


def _of(name: str, title: str, parts: dict[str, Any]) -> Iterator[Bar]:
    if accuracy := parts.get("accuracy"):
        yield from _accuracy(name, title, accuracy)
    if recoveries := parts.get("recoveries"):
        yield from _recoveries(name, title, recoveries)
    if four_bits := parts.get("four_bits"):
        yield from _four_bits(name, title, four_bits)
    if time := parts.get("time"):
        wall, inference = time["quantize"]["wall_s"], time["plain"]["inference_s"]
        yield Bar(
            title,
            f"wall at most {TIMES:g} x plain inference + {SECONDS:g} s",
            f"{wall:.1f} s against {TIMES:g} x {inference:.2f} + {SECONDS:g} s",
            time["beyond_3x_s"] <= SECONDS,
        )
        ratio = time["memory_ratio"]
        asked = f"peak memory at most {MEMORY:g} x plain"
        yield Bar(title, asked, f"{ratio:.2f} x", ratio <= MEMORY)
    if engines := parts.get("engines"):
        for key, engine in engines.items():
            builds, planned, ran = engine["builds"], engine["planned"], engine.get("int8")
            measured = f"{ran} of {planned}" if ran is not None else engine["error"]
            asked = f"every planned node INT8 in the engine, rest in {REST[key]}"
            yield Bar(title, asked, measured, builds and ran == planned)
    if memory := parts.get("memory"):
        few, many = memory.values()
        asked = f"no growth of memory from {' to '.join(memory)} samples"
        yield Bar(title, asked, f"{few:.0f} -> {many:.0f} MB", many <= GROWTH * few)
    if identity := parts.get("identity"):
        other = [name for name, same in identity.items() if not same]
        asked = "ranges the same to the byte for any order, split and workers"
        yield Bar(title, asked, f"differs: {', '.join(other)}" if other else "the same", not other)


def _recoveries(name: str, title: str, found: dict[str, Any]) -> Iterator[Bar]:
    keys = (
        ("sqnr_boxes_db", "sqnr_classes_db") if "sqnr_boxes_db" in found["none"] else ("sqnr_db",)
    )
    plain, default, everything = (found[k] for k in ("none", "default", "all"))
    for variant, least in (("default", LEAST_DEFAULT), ("all", LEAST_ALL)):
        if name in least:
            measured = found[variant]["sqnr_db"]
            asked = f"SQNR with recovery `{variant}` at least {least[name]:g} dB"
            yield Bar(title, asked, f"{measured:.2f} dB", measured >= least[name])
    for variant, entry in (("default", default), ("all", everything)):
        falls = [plain[k] - entry[k] for k in keys]
        measured = " / ".join(f"{plain[k]:.1f} -> {entry[k]:.1f} dB" for k in keys)
        asked = f"SQNR with recovery `{variant}` no worse than without"
        yield Bar(title, asked, measured, max(falls) <= FALL)
        if name in RECOVERED:
            gap = entry["metric"] - found["float"]
            asked = (
                f"metric with recovery `{variant}` at most {RECOVERED[name]:g} points below float"
            )
            yield Bar(
                title, asked, f"{gap:+.2f} ± {entry['gap_error']:.2f}", gap >= -RECOVERED[name]
            )


def _four_bits(name: str, title: str, found: dict[str, Any]) -> Iterator[Bar]:
    if name != "efficientnet_lite0":
        return
    mixed = {k: v for k, v in found.items() if k.startswith("pointwise") and "metric" in v}
    best = max(mixed, key=lambda k: mixed[k]["metric"], default=None)
    if best is not None:
        gap = mixed[best]["metric"] - found["float"]
        asked = f"4-bit pointwise, 8-bit depthwise at most {MIXED:g} points below float"
        yield Bar(title, asked, f"{gap:+.2f} ({best.rpartition(': ')[2]})", gap >= -MIXED)


def _accuracy(name: str, title: str, accuracy: dict[str, Any]) -> Iterator[Bar]:
    int8 = accuracy["int8"]
    if name in SQNR:
        measured = int8["sqnr_db"]
        yield Bar(
            title, f"SQNR at least {SQNR[name]:g} dB", f"{measured:.2f} dB", measured >= SQNR[name]
        )
    if name in METRIC:
        gap = int8["metric"] - accuracy["float"]
        error = f" ± {int8['gap_error']:.2f}" if "gap_error" in int8 else ""
        asked = f"metric at most {METRIC[name]:g} points below float"
        yield Bar(title, asked, f"{gap:+.2f}{error}", gap >= -METRIC[name] - 1e-9)
