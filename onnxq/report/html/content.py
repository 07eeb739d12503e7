"""What the page shows, as one JSON value; the page's script draws it and decides nothing.

title, made_by            text
verdict                   of the run that made it, where it was judged (see `headline`)
summary                   cards (see `summary`)
nodes, folders            rows (see `nodes`), and the folders they are in (see `folding`)
edges                     [from, to, types]: indices of nodes, and how the second reads the first
inputs, outputs           of the graph: name, shape and the nodes that read or write it
tensors                   ranges, histograms, readings (see `tensors`)
against                   another model beside it, where one is given (see `against`)
pictures                  of samples, where they were run (see `report.pictures`)
agreement, comparison, sensitivity, search, engine     where known (see `sections`)
provenance                versions, options, commands (see `provenance`)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from onnxq import __version__
from onnxq.inspect.reading import Reading
from onnxq.model.graph import Tensor
from onnxq.report.html import sections
from onnxq.report.html.against import against
from onnxq.report.html.edges import edges_of, shape_text
from onnxq.report.html.evidence import Evidence
from onnxq.report.html.folding import fold
from onnxq.report.html.headline import verdict_of
from onnxq.report.html.nodes import facts_of, node_rows
from onnxq.report.html.provenance import provenance
from onnxq.report.html.summary import cards
from onnxq.report.html.tensors import known_tensors, tensor_rows


def content(evidence: Evidence) -> dict[str, Any]:
    """The JSON value of a page; sections for what is not known are left out."""
    nodes = evidence.reading.nodes
    known = known_tensors(evidence)
    rows = node_rows(evidence, facts_of(evidence), known)
    place = {node.name: i for i, node in enumerate(nodes)}
    edges = edges_of(evidence.reading, place)
    folded = fold([node.name for node in nodes], [(a, b) for a, b, _ in edges])
    for row, folder, label in zip(rows, folded.folder_of, folded.labels, strict=True):
        row |= {"folder": folder, "label": label}
    found: dict[str, Any] = {
        "title": evidence.name,
        "made_by": f"onnxq {__version__}",
        "summary": cards(evidence, rows),
        "nodes": rows,
        "folders": [asdict(folder) for folder in folded.folders],
        "edges": [list(edge) for edge in edges],
        "inputs": _ends(evidence.graph.inputs, evidence.reading.readers, place),
        "outputs": _ends(evidence.graph.outputs, _writers(evidence.reading), place),
        "tensors": tensor_rows(evidence, known),
        "provenance": provenance(evidence),
    }
    if verdict := verdict_of(evidence.manifest):
        found["verdict"] = asdict(verdict)
    if evidence.manifest is not None:
        agreement = sections.agreement(evidence.manifest)
        found |= {"agreement": agreement} if agreement["outputs"] else {}
    if evidence.ranking is not None:
        found["sensitivity"] = sections.sensitivity(evidence.ranking)
    if evidence.search is not None:
        found["search"] = sections.search(evidence.search)
    if evidence.engine is not None:
        found["engine"] = sections.engine(evidence.engine, place)
    if evidence.fleet is not None:
        found["fleet"] = sections.fleet(evidence.fleet)
    if evidence.comparison is not None:
        found["comparison"] = sections.comparison(evidence.comparison)
    if evidence.pictures:
        found["pictures"] = [dict(picture) for picture in evidence.pictures]
    if evidence.other is not None:
        found["against"] = against(found, content(evidence.other))
    return found


def _writers(reading: Reading) -> Mapping[str, tuple[str, ...]]:
    return {tensor: (node,) for tensor, node in reading.writers.items()}


def _ends(
    tensors: Iterable[Tensor], nodes: Mapping[str, tuple[str, ...]], place: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Inputs or outputs of the graph, with the indices of the nodes that read or write them."""
    return [
        {
            "name": t.name,
            "shape": shape_text([t]),
            "nodes": [place[n] for n in nodes.get(t.name, ())],
        }
        for t in tensors
    ]
