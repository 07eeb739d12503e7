"""One self-contained HTML page of what was done to a model and what it cost (docs/report.md)."""

from onnxq.report.html.evidence import Evidence as Evidence
from onnxq.report.html.page import write_page as write_page
