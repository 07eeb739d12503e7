"""The page: one HTML file with its style, its script and its data. It needs no network.

The data is JSON in an element of its own. In it `<` is written `\\u003c`, so that no name of a
model can end the element; the script puts names into the page as text, never as markup.
"""

from __future__ import annotations

import html
import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from onnxq.files import together, write_text
from onnxq.progress import stage
from onnxq.report.html import badge as badges
from onnxq.report.html import pull_request
from onnxq.report.html.content import content
from onnxq.report.html.evidence import Evidence
from onnxq.report.html.modules import joined

STYLES = ("page.css", "graph.css", "tables.css", "pictures.css")


@stage("report")
def write_page(evidence: Evidence, path: Path) -> None:
    """Write the page, whole or not at all."""
    write_forms(evidence, path)


def write_forms(
    evidence: Evidence, page: Path, badge: Path | None = None, markdown: Path | None = None
) -> None:
    """Write the page, and where they are asked for the badge and the summary, all or none."""
    shown = content(evidence)
    with together():
        write_text(page, render(shown))
        if badge is not None:
            write_text(badge, badges.badge(evidence.manifest))
        if markdown is not None:
            write_text(markdown, pull_request.markdown(shown))


def render(data: dict[str, Any]) -> str:
    """The page that shows a `content` value."""
    script = joined("main", lambda name: _asset(f"{name}.mjs"))
    parts = {
        "title": html.escape(data["title"]),
        "style": "\n".join(_asset(name) for name in STYLES),
        "data": _embedded(data),
        "script": f'"use strict";\n(() => {{\n{script}}})();',
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _asset("page.html"))


def _embedded(data: dict[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be written
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text("utf-8")
