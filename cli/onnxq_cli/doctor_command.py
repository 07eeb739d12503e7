"""`onnxq doctor`: versions, providers and what works here."""

from __future__ import annotations

from dataclasses import asdict

from onnxq.json_text import to_json
from onnxq.verbs.doctor import checks as _checks
from onnxq.verbs.doctor import versions
from onnxq_cli import streams
from onnxq_cli.options import json_option
from onnxq_cli.sections import verb


@verb("onnxq doctor")
@json_option("Print JSON.")
def command(as_json: bool) -> int:
    """Show versions, ONNX Runtime's providers, TensorRT, and what works here.

    If something does not work, it says what to install.
    """
    from rich.text import Text

    from onnxq.report import text

    there = versions()
    found = {name: check() for name, check in _checks().items()}
    if as_json:
        works = {name: asdict(finding) for name, finding in found.items()}
        streams.out(to_json({"versions": there, "works": works}))
        return 0
    text.show(Text("Versions", style="bold"))
    text.show(text.pairs(there.items()))
    text.show(Text("\nWhat works here", style="bold"))
    text.show(text.pairs((n, f"{'yes' if f.works else 'no'}: {f.note}") for n, f in found.items()))
    return 0
