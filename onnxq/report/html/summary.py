"""The cards at the top of the page: what one looks at first."""

from __future__ import annotations

import math

from onnxq.judge.units import with_unit
from onnxq.pipeline.manifest import samples_of
from onnxq.report.decibels import in_db, parts_of
from onnxq.report.html.evidence import Document, Evidence
from onnxq.report.html.nodes import FLOAT, NONE, Row
from onnxq.words import MB, count

Card = dict[str, str]


def cards(evidence: Evidence, rows: list[Row]) -> list[Card]:
    """label, value, note; `state` is good or bad where there is a verdict."""
    found = _agreement(evidence) + _metric(evidence) + _size(evidence.manifest)
    found += _coverage(evidence, rows) + _engine(evidence.engine)
    found += _latency(evidence.engine) + _clipping(evidence.manifest)
    return found


def manifest_cards(manifest: Document) -> list[Card]:
    """The cards that a manifest fills."""
    return [*_manifest_agreement(manifest), *_size(manifest), *_clipping(manifest)]


def _card(label: str, value: str, note: str = "", state: str = "") -> Card:
    return {"label": label, "value": value, "note": note, "state": state}


def _agreement(evidence: Evidence) -> list[Card]:
    """The worst output, of the comparison if there is one, else of the manifest."""
    compared = evidence.comparison
    if compared is None:
        return _manifest_agreement(evidence.manifest) if evidence.manifest else []
    where = f"{count(compared['samples'], 'sample')} compared"
    state = "bad" if compared["failures"] else ""
    return _worst(compared, where, state) or _equal(compared, where, state)


def _manifest_agreement(manifest: Document) -> list[Card]:
    found = manifest["agreement"]
    return _worst(found, samples_of(found), "") or _equal(found, samples_of(found), "")


def _worst(found: Document, where: str, state: str) -> list[Card]:
    """The headline of a document; 0.1 wrote none."""
    outputs = parts_of(found)
    if not outputs:
        return []
    if headline := found.get("headline"):
        name, worst = headline["part"], outputs[headline["part"]]
    else:
        name, worst = min(outputs.items(), key=lambda o: _order(float(o[1]["sqnr_db"])))
    which = f"worst of {len(outputs)} outputs, '{name}'" if len(outputs) > 1 else f"of '{name}'"
    shown, _, spread = in_db(worst).partition(" ± ")
    spread = f" ± {spread}" if spread else ""
    note = f"{which}{spread}; {where}, cosine {float(worst['cosine']):.5f}"
    return [_card("SQNR", shown, note, state)]


def _equal(found: Document, where: str, state: str) -> list[Card]:
    """The worst of the outputs that are compared by equality; that nothing was, without any."""
    exact = found.get("exact", {})
    if not exact:
        return [_card("outputs", "not compared", where, state)]
    name, worst = min(exact.items(), key=lambda o: float(o[1]["equal"] / o[1]["values"]))
    value = f"{100 * worst['equal'] / worst['values']:.2f} %"
    return [_card("equal values", value, f"of '{name}'; {where}", state)]


def _order(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _metric(evidence: Evidence) -> list[Card]:
    """What the metric says of the float and of the quantized model."""
    ranking, search = evidence.ranking, evidence.search
    found = [] if evidence.comparison is None else score_cards(evidence.comparison)
    if ranking is not None and ranking.quantized_score is not None:
        floats = "" if ranking.float_score is None else f"float {ranking.float_score:.4g}; "
        note = f"{floats}{count(ranking.samples, 'sample')} of the ranking"
        value = with_unit(f"{ranking.quantized_score:.4g}", ranking.metric)
        found.append(_card(f"{ranking.metric}, all quantized", value, note))
    if search is not None and search.chosen is None:
        found.append(_card("search", "none", f"no plan keeps to a {search.budget}", "bad"))
    elif search is not None and search.chosen is not None:
        score = f"{search.metric} {search.chosen.score:.4g}"
        if not math.isinf(search.reference):
            score += f" (float {search.reference:.4g})"
        note = f"of float; {score}, chosen for a {search.budget}"
        found.append(_card("cost", f"{100 * search.chosen.cost:.0f} %", note, "good"))
    return found


def score_cards(comparison: Document) -> list[Card]:
    """What the user's metric says of both models, of a comparison that was made with one."""
    if not (found := comparison.get("metric")):
        return []
    sides = []
    for side in ("float", "quantized"):
        error = found.get(f"{side}_stderr")
        spread = "" if error is None else f" ± {float(error):.2g}"
        sides.append((f"{float(found[side]):.4g}", spread))
    (before, its), (after, own) = sides
    note = f"{own.strip()}; float {before}{its}; {count(comparison['samples'], 'sample')}"
    return [_card(str(found["metric"]), after, note.removeprefix("; "))]


def _latency(document: Document | None) -> list[Card]:
    """The time of the profile, and of the float engine's where that is given."""
    total, before = (document or {}).get("total_ms"), (document or {}).get("float_ms")
    if not total:
        return []
    note = "the mean times of its layers, added up"
    if before:
        ratio = before / total
        said = f"{ratio:.2f} x faster" if ratio >= 1 else f"{1 / ratio:.2f} x slower"
        note = f"{said} than float's {_ms(before)}; {note}"
    return [_card("latency", _ms(total), note)]


def _ms(ms: float) -> str:
    return f"{ms:.4g} ms"


def _size(manifest: Document | None) -> list[Card]:
    if manifest is None or "output" not in manifest:
        return []
    before, after = manifest["model"]["bytes"], manifest["output"]["bytes"]
    note = f"was {before / MB:.2f} MB: {before / after:.1f} x smaller" if after else ""
    return [_card("size", f"{after / MB:.2f} MB", note)]


def _coverage(evidence: Evidence, rows: list[Row]) -> list[Card]:
    weighted = [row for node, row in zip(evidence.reading.nodes, rows, strict=True)
                if node.weighted]  # fmt: skip
    if not weighted:
        return []
    done = sum(row["kind"] not in (FLOAT, NONE) for row in weighted)
    others = sum(row["kind"] not in (FLOAT, NONE) for row in rows) - done
    ops = ", ".join(sorted({row["op"] for row in weighted}))
    note = f"{ops} nodes quantized" + (f", and {others} others" if others else "")
    return [_card("coverage", f"{done} of {len(weighted)}", note)]


def _engine(document: Document | None) -> list[Card]:
    if document is None:
        return []
    build = document["build"]
    where = " ".join(filter(None, (build.get("backend"), build.get("version")))) or "TensorRT"
    if not document["ok"]:
        return [_card("engine", "refused", f"by {where}", "bad")]
    verdict = document.get("verdict", {})
    if not verdict.get("readable"):
        return [_card("engine", "built", f"by {where}; what runs is unknown", "good")]
    nodes = verdict["nodes"].values()
    missed = sum(n["real"] not in (n["meant"], "unknown", "folded") for n in nodes)
    note = f"nodes with Q/DQ run as meant; {verdict['kernels']} kernels, {where}"
    value = f"{verdict['covered']} of {verdict['meant']}"
    return [_card("engine", value, note, "bad" if missed else "good")]


def _clipping(manifest: Document | None) -> list[Card]:
    tensors = (manifest or {}).get("tensors", {})
    # nobody counted what a range out of another tool's cache clips
    ranges = {n: r for n, r in tensors.items() if not math.isnan(float(r["sat_ratio"]))}
    if not ranges:
        return []
    name, worst = max(ranges.items(), key=lambda r: float(r[1]["sat_ratio"]))
    share = 100 * worst["sat_ratio"]
    if not share:
        return [_card("most clipped", "none", "no value of any tensor is beyond its range")]
    return [_card("most clipped", f"{share:.2g} %", f"of the values of '{name}'")]
