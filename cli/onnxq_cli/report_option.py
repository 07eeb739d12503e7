"""`--report` of the verbs: the page that `onnxq report` makes, of what the verb has in hand."""

from __future__ import annotations

import click

from onnxq.escaping import shell_line
from onnxq_cli.options import OUT

report_option = click.option("--report", type=OUT, metavar="FILE.html",
                             help="Write what was found as one HTML page.")  # fmt: skip


def command_line() -> tuple[str, ...]:
    """The command that runs, as one line for a shell; none where it was not typed."""
    words = click.get_current_context().find_root().obj
    return (shell_line(["onnxq", *words]),) if words else ()
