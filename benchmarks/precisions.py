"""Every scheme, recovery and width of weights: accuracy, size, what runs and what builds."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Collection
from typing import Any

from accuracy import figures, float_figures
from cases import Bench, Case, Output, quantized, say
from engines import verdict

from onnxq.schemes import SCHEMES

Variants = dict[str, tuple[str, ...]]

FEW = ("--samples", "32")
RECOVERIES: Variants = {
    "none": ("--recover", "none"),
    "default": (),
    "all": ("--recover", "all"),
}
NEAREST, ROUND, EVERYTHING = (
    ("--recover", "none"),
    ("--recover", "round,bias"),
    ("--recover", "all"),
)
W4A8, W4A16 = ("--scheme", "w4a8"), ("--scheme", "w4a16")
CHANNELS = ("--weights", "per-channel")
NARROW: Variants = {
    "w4a8 nearest": (*W4A8, *NEAREST),
    "w4a8 round, bias": (*W4A8, *ROUND),
    "w4a8 all": (*W4A8, *EVERYTHING),
    "w4a16 nearest": (*W4A16, *NEAREST),
    "w4a16 round, bias": (*W4A16, *ROUND),
}
DEPTHWISE = ("--scheme-for", "depthwise=w8a8")
FOUR_BITS: dict[str, Variants] = {
    "efficientnet_lite0": {
        "pointwise w4a8, depthwise w8a8: nearest": (*W4A8, *DEPTHWISE, *NEAREST),
        "pointwise w4a8, depthwise w8a8: round, bias": (*W4A8, *DEPTHWISE, *ROUND),
        "pointwise w4a8, depthwise w8a8: all": (*W4A8, *DEPTHWISE, *EVERYTHING),
        **NARROW,
    },
    "resnet20": NARROW,
    "yolo11n": {name: options for name, options in NARROW.items() if "w4a8" in name},
    "minilm_l3": {
        "w4a16 per channel nearest": (*W4A16, *CHANNELS, *NEAREST),
        "w4a16 per channel round, bias": (*W4A16, *CHANNELS, *ROUND),
        "w4a16 blocks of 64 nearest": (*W4A16, *NEAREST),
        "w4a16 blocks of 64 round, bias": (*W4A16, *ROUND),
        "w4a16 blocks of 32 round, bias": (*W4A16, "--block-size", "32", *ROUND),
        "w4a8 nearest": (*W4A8, *NEAREST),
        "w4a8 all": (*W4A8, *EVERYTHING),
    },
}


def schemes(bench: Bench, case: Case, names: Collection[str] = tuple(SCHEMES)) -> dict[str, Any]:
    """Each scheme with default options, on a target that runs it."""
    variants: Variants = {}
    for name, scheme in SCHEMES.items():
        if name not in names:
            continue
        target = () if "tensorrt" in scheme.targets else ("--target", scheme.targets[0])
        variants[name] = ("--scheme", name, *target, *FEW)
    return _measured(bench, case, variants, engines=True)


def recoveries(bench: Bench, case: Case) -> dict[str, Any]:
    """INT8 without recovery, with the default, and with everything."""
    return _measured(bench, case, RECOVERIES)


def four_bits(bench: Bench, case: Case) -> dict[str, Any]:
    """4-bit weights rounded to nearest and by `round`, per channel and per block."""
    return _measured(bench, case, FOUR_BITS.get(case.name, {}))


def _measured(
    bench: Bench, case: Case, variants: Variants, engines: bool = False
) -> dict[str, Any]:
    found = float_figures(bench, case)
    for name, options in variants.items():
        found[name] = entry(bench, case, options, engines)
    return found


def entry(bench: Bench, case: Case, options: tuple[str, ...], engines: bool) -> dict[str, Any]:
    """What a run with these options reaches; `error` if it fails."""
    try:
        model = quantized(bench, case, *options)
        found: dict[str, Any] = figures(bench, case, model.path)
    except RuntimeError as e:
        say(f"{case.title}: {' '.join(options)}: {e}")
        return {"error": str(e).strip().splitlines()[-1]}
    found["weights"] = _widths(model)
    found["seconds"] = model.figures["wall_s"]
    buildable = model.manifest["config"].get("target", "tensorrt") == "tensorrt"
    if engines and buildable and importlib.util.find_spec("tensorrt_rtx") is not None:
        found["engine"] = verdict(bench, case, model)
    return found


def _widths(model: Output) -> dict[str, int]:
    """Precision -> how many nodes have it."""
    counts: Counter[str] = Counter()
    for kind in model.manifest["nodes"]["precisions"]:
        counts[kind["precision"]] += kind["nodes"]
    return dict(counts)
