"""Where a model came from, and the commands that do it again."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import Any

from onnxq.escaping import shell_line
from onnxq.pipeline.config import Config
from onnxq.pipeline.manifest import versions
from onnxq.report.html.evidence import Document, Evidence
from onnxq.report.html.numbers import finite
from onnxq.words import count

Section = dict[str, Any]


def provenance(evidence: Evidence) -> Section:
    """Versions, files, data, options that are not the defaults, time, and commands."""
    manifest, stats = evidence.manifest, evidence.stats
    found: Section = {"facts": [], "options": [], "seconds": [], "notes": [], "recovered": []}
    if manifest is not None:
        found |= told(manifest)
    else:
        found["versions"] = list(versions().items())
        found["notes"] = [evidence.reasons.note] if evidence.reasons.source == "rules" else []
        if stats is not None:
            found["facts"] = [["calibrated on", count(stats.samples, "sample")],
                              ["their digest", stats.data]]  # fmt: skip
    found["commands"] = _commands(evidence)
    return Section(finite(found))


def told(manifest: Document) -> Section:
    """What a manifest tells of a run."""
    model, data = manifest["model"], manifest["data"]
    return {
        "versions": list(manifest["versions"].items()),
        "facts": [
            ["float model", str(model["path"])],
            ["its SHA-256", str(model["sha256"])],
            ["calibrated on", count(data["samples"], "sample")],
            ["their digest", str(data["digest"])],
            ["method", str(manifest["config"]["method"])],
        ],
        "options": _options(manifest["config"]),
        "seconds": list(manifest["seconds"].items()),
        "notes": [str(note) for note in manifest["notes"]],
        "recovered": [_recovered(r) for r in manifest["recovered"]],
    }


def _options(config: Document) -> list[list[Any]]:
    """The options that are not as they are by default."""
    usual = Config().flat()
    return [
        [key, value if isinstance(value, str) else repr(value)]
        for key, value in config.items()
        if key != "workers" and value != usual.get(key)
    ]


def _recovered(found: Document) -> dict[str, Any]:
    return {
        "algorithm": found["algorithm"],
        "kept": len(found["gain_db"]),
        "undone": len(found["undone"]),
        "sqnr": [[n, s["before"], s["after"]] for n, s in found["sqnr_db"].items()],
        "notes": [str(note) for note in found.get("notes", ())],
    }


def _commands(evidence: Evidence) -> list[str]:
    repeat = [str(line) for line in (evidence.manifest or {}).get("repeat", ())]
    made = _quantizing(evidence.manifest, repeat) if repeat else []
    quantizes = any(line.startswith("onnxq quantize ") for line in evidence.commands)
    return [*([] if quantizes else made), *evidence.commands, *repeat]


def _quantizing(manifest: Document | None, repeat: list[str]) -> list[str]:
    """The command that quantizes by the manifest: its data are named where it repeats itself."""
    try:
        words = shlex.split(repeat[0])
    except ValueError:  # of a manifest that was edited
        return []
    out = (manifest or {}).get("output", {}).get("path")
    if words[:2] != ["onnxq", "data"] or "--model" not in words or "$'" in repeat[0] or not out:
        return []
    calib = [word for before, word in pairwise(words) if before == "--calib"]
    model = words[words.index("--model") + 1]
    line = ["onnxq", "quantize", model]
    for source in calib:
        line += ["--calib", source]
    return [shell_line([*line, "--config", f"{out}.manifest.json", "-o", out])]
