"""The verdict of a run in one line: the grade, the worst part, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from onnxq.report.decibels import in_db
from onnxq.report.html.evidence import Document

GRADES = ("good", "doubtful", "poor")


@dataclass(frozen=True)
class Verdict:
    """grade: good, doubtful or poor. worst: the part of the outputs that decides, with its SQNR,
    `scores: 16.3 dB ± 6.2 (least 0.7)`. more: what else there is to say, or empty. next: a command,
    or empty."""

    grade: str
    worst: str
    more: str
    next: str

    @property
    def figure(self) -> str:
        """The SQNR alone, without its spread: `16.3 dB`; empty where no part decided."""
        return self.worst.rpartition(": ")[2].partition(" ± ")[0]


def verdict_of(manifest: Document | None) -> Verdict | None:
    """The verdict that a manifest holds; None where nothing was judged."""
    said = (manifest or {}).get("verdict")
    if manifest is None or not said or said["grade"] not in GRADES:
        return None
    found = manifest["agreement"].get("headline")
    worst = f"{found['part']}: {in_db(found)}" if found else ""
    more = str(said["why"]).removeprefix(worst.replace(": ", " has ", 1)).lstrip(",; ")
    return Verdict(str(said["grade"]), worst, more, str(said.get("next", "")))
