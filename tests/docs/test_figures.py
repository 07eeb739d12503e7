"""Figures that stand in two places come from one file."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- times: begin -->\n\n", "\n<!-- times: end -->"


def test_the_table_of_the_front_pages_is_that_of_the_last_measurement(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    from page_times import front

    kept = json.loads((ROOT / "benchmarks" / "performance.json").read_text("utf-8"))
    assert (measured := front(kept))
    for page in ("README.md", "docs/index.md"):
        text = (ROOT / page).read_text("utf-8")
        assert text.partition(BEGIN)[2].partition(END)[0] == measured, page
