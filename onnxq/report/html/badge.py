"""The verdict as a picture the size of a badge, for a README: `onnxq | good 16.3 dB`."""

from __future__ import annotations

from xml.sax.saxutils import escape

from onnxq.report.html.evidence import Document
from onnxq.report.html.headline import verdict_of

# White text has a contrast of 4.5 or more on each.
COLOURS = {"good": "#17784a", "doubtful": "#8a5a00", "poor": "#b3261e", "": "#5c6674"}
NAME, LETTER, PAD, HEIGHT = "onnxq", 6.6, 6, 20  # letters of Verdana 11 are about as wide


def badge(manifest: Document | None) -> str:
    """An SVG with the grade and the worst part's SQNR, `not judged` without a verdict."""
    verdict = verdict_of(manifest)
    said, grade = "not judged", ""
    if verdict is not None:
        said, grade = f"{verdict.grade} {verdict.figure}".strip(), verdict.grade
    left, right = (round(len(text) * LETTER + 2 * PAD) for text in (NAME, said))
    texts = "".join(
        f'<text x="{x}" y="14" textLength="{round(len(text) * LETTER)}">{escape(text)}</text>'
        for x, text in ((PAD, NAME), (left + PAD, said))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{HEIGHT}" '
        f'role="img" aria-label="{NAME}: {escape(said)}"><title>{NAME}: {escape(said)}</title>'
        f'<rect width="{left + right}" height="{HEIGHT}" rx="3" fill="#3a4450"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v{HEIGHT - 6}a3 3 0 0 1-3 3H{left}z" '
        f'fill="{COLOURS[grade]}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{texts}</g>'
        "</svg>\n"
    )
