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
GROWTH = 1.05
REST = {"int8": "FP32", "fp16": "FP16"}
# Time beside plain inference, start of the process taken off: (times, seconds more).
CALIBRATE = {"yolo11n": (1.2, 0.0), "efficientnet_lite0": (1.6, 0.3), "minilm_l3": (1.6, 0.3)}
QUANTIZE = {"quantize --recover none": (1.6, 0.5), "quantize": (3.0, 0.7)}
MEMORY = {"calibrate": 1.6, "quantize": 2.2}  # times plain
START = {
    "version": ("`onnxq --version`", "wall_s", 0.1),
    "onnxq": ("`import onnxq`", "import_s", 0.1),
    "start of quantize": ("all that `quantize` imports", "import_s", 0.7),
}
ROWS, PREPARE = 1.5, 2.5  # times plain; CPU seconds
SENSITIVITY = {"efficientnet_lite0": 0.35, "yolo11n": 0.28}  # of nodes x plain
# Float rounding moves a code or two of a toggled tensor: on EfficientNet-Lite0 0.004 dB of a score
# of 32 samples, 0.017 of one of 8. Ranks are 1 dB apart.
SAME_DB = 0.02
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


def timed(found: Results, titles: dict[str, str]) -> Iterator[Bar]:
    """Every bar on time and memory that the figures of performance.py can be held against."""
    for name, parts in found.items():
        title = titles.get(name, name)
        if time := parts.get("time"):
            yield from _beside_plain(name, title, time["ways"])
        if ranking := parts.get("sensitivity"):
            yield from _sensitivity(title, ranking, SENSITIVITY[name])
    whole = found.get("whole", {})
    for way, (what, key, least) in START.items() if "start" in whole else ():
        seconds = whole["start"]["ways"][way][key]
        yield Bar(what, f"under {least:g} s", f"{seconds:.3f} s", seconds < least)
    if many := whole.get("rows"):
        for way, ratio in _less_start(many["ways"], "inference_s"):
            asked = f"`{way}` at most {ROWS:g} x plain row by row"
            yield Bar("100,000 rows", asked, f"{ratio:.2f} x", ratio <= ROWS)
    if prepare := whole.get("prepare"):
        seconds = prepare["ways"]["prepare"]["prepare_s"]
        asked = f"prepared in at most {PREPARE:g} CPU s"
        yield Bar("10,000 nodes", asked, f"{seconds:.2f} s", seconds <= PREPARE)


def _less_start(ways: dict[str, dict[str, float]], plain: str) -> Iterator[tuple[str, float]]:
    """(way, its time beside plain inference, the start of the process taken off)."""
    for way, figures in ways.items():
        if start := ways.get(f"start of {way}"):
            yield way, (figures["wall_s"] - start["wall_s"]) / ways["plain"][plain]


def _beside_plain(name: str, title: str, ways: dict[str, dict[str, float]]) -> Iterator[Bar]:
    plain, memory = ways["plain"]["inference_s"], ways["plain"]["peak_mb"]
    for way, ratio in _less_start(ways, "inference_s"):
        bar = CALIBRATE.get(name) if way == "calibrate" else QUANTIZE[way]
        if bar is not None:
            times, seconds = bar
            more = f" + {seconds:g} s" if seconds else ""
            yield Bar(
                title,
                f"`{way}` at most {times:g} x plain{more}",
                f"{ratio * plain:.2f} s, {times * plain + seconds:.2f} s allowed ({ratio:.2f} x)",
                ratio * plain <= times * plain + seconds,
            )
        if way in MEMORY:
            share = ways[way]["peak_mb"] / memory
            asked = f"`{way}`: memory at most {MEMORY[way]:g} x plain"
            yield Bar(title, asked, f"{share:.2f} x", share <= MEMORY[way])


def sensitivity_ratio(found: dict[str, Any]) -> float:
    """The time of a ranking as a share of nodes x plain inference before and after it."""
    ways = found["ways"]
    plain = (ways["plain"]["inference_s"] + ways["plain again"]["inference_s"]) / 2
    seconds = ways["sensitivity"]["wall_s"] - ways["start of calibrate"]["wall_s"]
    return float(seconds / (found["nodes"] * plain))


def _sensitivity(title: str, found: dict[str, Any], least: float) -> Iterator[Bar]:
    ratio, apart = sensitivity_ratio(found), found["apart_db"]
    asked = f"`sensitivity` at most {least:g} x nodes x plain"
    yield Bar(title, asked, f"{ratio:.2f} x", ratio <= least)
    asked = f"scores and order of `sensitivity` those of `--whole`, within {SAME_DB:g} dB"
    order = "the same" if found["same_order"] else "differs"
    yield Bar(title, asked, f"{apart:.2g} dB, order {order}", apart <= SAME_DB)


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
