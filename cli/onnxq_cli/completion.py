"""Shell completion of names inside a model: `onnxq quantize model.onnx --skip /neck<TAB>`.

The shell asks by `_ONNXQ_COMPLETE=bash_complete onnxq`; click answers (docs/cli.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

MOST = 1000  # names offered
QDQ = ("QuantizeLinear", "DequantizeLinear")


def complete_nodes(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of nodes of the model on the line; op types after `op:`, tensors after `tensor:`.

    Nothing where there is no model yet or it cannot be read: a completion never complains.
    """
    if incomplete.startswith("@"):
        return [CompletionItem(incomplete, type="file")]
    # behind an option that waits for its value click leaves the model among what it did not parse
    models: list[Any] = [ctx.params.get("model"), *(a for a in ctx.args if Path(a).is_file())]
    model = next(filter(None, models), None)
    found = _names(Path(model), incomplete) if model else []
    prefixed = [name for name in found if name.startswith(incomplete)]
    return [CompletionItem(name) for name in (prefixed or found)[:MOST]]


def _names(model: Path, incomplete: str) -> list[str]:
    import onnx

    try:
        nodes = onnx.load(str(model), load_external_data=False).graph.node
    except Exception:  # whatever a file that is no model makes onnx raise
        return []
    if incomplete.startswith("op:"):
        names = [f"op:{node.op_type}" for node in nodes]
    elif incomplete.startswith("tensor:"):
        names = [f"tensor:{name}" for node in nodes for name in node.output]
    else:
        names = [node.name for node in nodes if node.op_type not in QDQ]
    return [name for name in dict.fromkeys(names) if name and incomplete in name]
