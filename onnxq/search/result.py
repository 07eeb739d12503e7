"""What a search found: every plan that was measured, and the one chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnxq.cost.counted import Share
from onnxq.cost.learnt import Learnt
from onnxq.errors import PlanError
from onnxq.judge.units import label
from onnxq.plan import Plan
from onnxq.saved import FileForm, csv_of, value_of
from onnxq.table import Table, page

FORM = FileForm(
    "onnxq.search", 1, PlanError,
    absent="no search result at '{path}'; 'onnxq search --pareto result.json' makes one",
    other="'{path}' is not a search result that can be read (ValueError: kind '{kind}' version "
    "{version}); 'onnxq search --pareto result.json' makes one",
    broken="'{path}' is not a search result that can be read ({class}: {why}); "
    "'onnxq search --pareto result.json' makes one",
)  # fmt: skip
PLAIN = "plain"  # the session that a trial was measured in


@dataclass(frozen=True)
class Trial:
    """A plan that was measured.

    choices: the precision of each node that is quantized. floats: nodes that it leaves float and
    other plans do not. cost: as a share of the float model's; modelled: the same where `cost` is
    measured. shares: choice -> its share of the weights and of the multiply-accumulates, "float"
    among them. predicted: damage by adding up.
    score, stderr: measured, at the worst part of the outputs. parts: score of each part.
    holds: whether it keeps to the budget. front: whether no measured plan is both cheaper and
    better. trouble: why a plain ONNX Runtime session could not run it; "" where it was measured so.
    """

    choices: Mapping[str, str]
    floats: tuple[str, ...]
    cost: float
    modelled: float
    shares: Mapping[str, Share]
    predicted: float
    score: float
    stderr: float | None
    parts: Mapping[str, float]
    holds: bool
    front: bool = False
    trouble: str = ""

    @property
    def share(self) -> float:
        """Of the multiply-accumulates that are quantized, 0 to 1."""
        return 1.0 - self.shares["float"].macs

    @property
    def measured(self) -> str:
        """Its score, with the standard error where that is known and not 0."""
        return f"{self.score:.5g}" + (f" ± {self.stderr:.2g}" if self.stderr else "")


@dataclass(frozen=True)
class Result:
    """The trials by rising cost, and which of them is chosen (None: none keeps to the budget).

    choices: the quantized choices there were. nearest: where none is chosen, the trial that misses
    by least. outputs: SQNR in dB of each part of the outputs of the chosen plan's model, on the
    samples that `quantize` compares on. learnt: what the cost was learnt from,
    where that is a profile.
    """

    model: str
    metric: str
    higher_is_better: bool
    reference: float
    budget: str
    cost: str
    choices: tuple[str, ...]
    samples: int
    trials: tuple[Trial, ...]
    chosen: Trial | None
    nearest: Trial | None
    plan: Plan | None = field(repr=False)
    outputs: Mapping[str, float] = field(default_factory=dict)
    learnt: Learnt | None = None

    def __repr__(self) -> str:
        taken = self.chosen
        said = f"cost {taken.cost:.3f}, {self.metric} {taken.score:.5g}" if taken else "none"
        return f"Result({len(self.trials)} plans, chosen for a {self.budget}: {said})"

    def _repr_html_(self) -> str:
        heading = f"{len(self.trials)} plans for a {self.budget}, {self.samples} samples"
        return page(heading, self.table())

    def table(self) -> Table:
        """The plans that were measured, by rising cost."""
        rows = [
            (
                self.standing(t),
                f"{t.cost:.3f}",
                len(t.floats),
                t.measured,
                "yes" if t.holds else "no",
            )
            for t in self.trials
        ]
        columns = ("plan", f"cost ({self.cost})", "float", label(self.metric), "holds")
        return Table("Plans", columns, rows)

    def standing(self, trial: Trial) -> str:
        """What a trial is among the others: `chosen`, on the `front`, or nothing of the kind."""
        return "chosen" if trial is self.chosen else "front" if trial.front else ""

    def to_json(self) -> str:
        """Everything but the plan; infinite scores are strings ("inf"), as JSON has none."""
        document = {
            "model": self.model,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "float_score": self.reference,
            "budget": self.budget,
            "cost": self.cost,
            "choices": list(self.choices),
            "samples": self.samples,
            "chosen": self._place(self.chosen),
            "nearest": self._place(self.nearest),
            "outputs_sqnr_db": dict(self.outputs),
            "learnt": None if self.learnt is None else asdict(self.learnt),
            "trials": [{**_as_dict(t), "precisions": dict(t.choices)} for t in self.trials],
        }
        return FORM.to_json(document)

    def _place(self, trial: Trial | None) -> int | None:
        """The index of a trial."""
        return None if trial is None else self.trials.index(trial)

    @staticmethod
    def load(path: str | Path) -> Result:
        """Read the `.json` form, which has no plan (that is `plan.yaml`).

        Raises PlanError for a file that is not the result of a search.
        """
        return FORM.load(path, _from_document)

    def to_csv(self) -> str:
        """A line a trial."""
        return csv_of(map(self._flat, self.trials))

    def _flat(self, trial: Trial) -> dict[str, Any]:
        row = _as_dict(trial)
        parts, floats, shares = row.pop("parts"), row.pop("float"), row.pop("shares")
        del row["session"]  # a sentence
        for choice in self.choices:
            share = shares.get(choice, {"weights": 0.0, "macs": 0.0})
            row |= {f"{choice}:{of}": value for of, value in share.items()}
        row |= {f"score:{name}": score for name, score in parts.items()}
        chosen = int(trial == self.chosen)
        return {
            **row,
            "chosen": chosen,
            "float_nodes": len(floats),
            "float": " ".join(floats),
        }


def _from_document(document: Any) -> Result:
    trials = tuple(map(_trial, document["trials"]))
    chosen, nearest = (
        None if document[name] is None else trials[document[name]] for name in ("chosen", "nearest")
    )
    found: Result = value_of(Result, {
        **document, "reference": document["float_score"], "trials": trials, "chosen": chosen,
        "nearest": nearest, "plan": None, "outputs": document["outputs_sqnr_db"],
        "learnt": document.get("learnt"),
    })  # fmt: skip
    return found


def _trial(entry: Mapping[str, Any]) -> Trial:
    shares = [value for share in entry["shares"].values() for value in share.values()]
    for value in (entry["cost"], entry["modelled_cost"], *shares):
        if not math.isfinite(float(value)):
            raise ValueError(f"{value!r} where a finite number is expected")
    session = entry.get("session", PLAIN)
    found: Trial = value_of(Trial, {
        **entry, "choices": entry["precisions"], "floats": entry["float"],
        "modelled": entry["modelled_cost"], "predicted": entry["predicted_damage"],
        "trouble": "" if session == PLAIN else session,
    })  # fmt: skip
    return found


def _as_dict(trial: Trial) -> dict[str, Any]:
    return {
        "cost": trial.cost,
        "modelled_cost": trial.modelled,
        "quantized_macs": trial.share,
        "shares": {choice: asdict(share) for choice, share in trial.shares.items()},
        "predicted_damage": trial.predicted,
        "score": trial.score,
        "stderr": trial.stderr,
        "parts": dict(trial.parts),
        "holds": trial.holds,
        "front": trial.front,
        "float": list(trial.floats),
        "session": trial.trouble or PLAIN,
    }
