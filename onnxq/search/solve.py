"""The integer program: the precision of each node for the least damage within a cost.

    minimize    z + 0.01 * mean over outputs of their damage
    where       z >= sum over nodes, choices of  damage[node, choice, output] * x[node, choice]
                limit >= sum of  cost[node, choice] * x[node, choice]
                sum over choices of  x[node, choice] = 1,  x in {0, 1}

Costs between nodes are added to those of nodes: for each tensor  convert * c - saved * y,  c at
least  quantized[reader] - y  of each reader, y at most  quantized[reader]  of each and
quantized[writer],  where quantized is the sum of x over the choices but the last, which is float.

Damage is scaled so that the worst choice for every node makes `SCALE` at the worst output, and
costs by `SCALE` too: the solver's tolerances are absolute, 1e-6, and good plans do some thousandths
of the damage of the worst. The second term keeps outputs apart from the worst from being spoilt
for nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxq.errors import PlanError, RuntimeMissing

Array = npt.NDArray[np.float64]
OTHERS, SLACK = 0.01, 1e-9
SECONDS, GAP = 30.0, 1e-6  # the best found by then is taken
SCALE = 1000.0
LARGEST = 10.0  # noise over signal: beyond an SQNR of -10 dB nothing is worse than something else


def require() -> None:
    """Raises RuntimeMissing where there is no highspy."""
    _highs()


def _highs() -> Any:
    try:
        import highspy
    except ImportError as e:
        raise RuntimeMissing('searching needs highspy; pip install "onnxq[search]"') from e
    return highspy


@dataclass(frozen=True)
class Link:
    """A tensor between nodes, by their numbers: what converting it costs, what is saved where it is
    stored in few bits, and whether it can be. writer: None where any writer can."""

    writer: int | None
    readers: tuple[int, ...]
    convert: float
    saved: float
    able: bool


@dataclass(frozen=True)
class Bound:
    """least <= sum of values * variables <= most, of the variables with these numbers."""

    variables: Sequence[int] | npt.NDArray[np.intp]
    values: Sequence[float] | Array
    least: float
    most: float

    @classmethod
    def of(cls, row: Array, most: float) -> Bound:
        """At most so much of a whole row."""
        filled = np.flatnonzero(row)
        return cls(filled, row[filled], -np.inf, most)


def cheapest(cost: Array, links: Sequence[Link] = ()) -> float:
    """The least that any choices cost; `cost` and `links` as `solve` takes them."""
    if not links:
        return float(cost.min(axis=1).sum())
    row, upper = _variables(cost, links)
    solution = _solved(row, upper, cost.shape, [], links)
    if solution is None:
        raise PlanError("the integer program of the least cost has no solution")
    return float(row @ solution)


def solve(cost: Array, damage: Array, limit: float, links: Sequence[Link] = ()) -> list[int] | None:
    """The choice of every node; None where no choices cost as little as `limit`.

    cost: [nodes, choices], infinite for a choice that a node does not have. damage: [nodes,
    choices, outputs], at least 0. links: costs between nodes; with any, the last choice is float.
    """
    nodes, choices, outputs = damage.shape
    row, upper = _variables(cost, links)
    damage = np.where(np.isfinite(cost)[..., None], np.clip(damage, 0.0, LARGEST), 0.0)
    worst = damage.max(axis=1).sum(axis=0).max()
    scaled = damage * (SCALE / worst) if worst else damage
    flat = scaled.reshape(nodes * choices, outputs)
    others = np.zeros(2 * len(links))
    objective = np.concatenate([OTHERS * flat.mean(axis=1), [1.0], others])
    within = Bound.of(SCALE * row, SCALE * (limit + SLACK))
    worst_output = np.hstack([flat.T, -np.ones((outputs, 1)), np.zeros((outputs, len(others)))])
    constraints = [within, *(Bound.of(output, 0.0) for output in worst_output)]
    solution = _solved(objective, upper, cost.shape, constraints, links)
    if solution is None:
        return None
    chosen = solution[: nodes * choices].reshape(nodes, choices)
    return [int(i) for i in chosen.argmax(axis=1)]


def _variables(cost: Array, links: Sequence[Link]) -> tuple[Array, Array]:
    """What each variable costs and how large it may be: x of nodes, z, then c and y of links."""
    offered = np.isfinite(cost)
    between = [value for link in links for value in (link.convert, -link.saved)]
    most = [value for link in links for value in (1.0, float(link.able))]
    row = np.concatenate([np.where(offered, cost, 0.0).reshape(-1), [0.0], between])
    return row, np.concatenate([offered.reshape(-1).astype(float), [np.inf], most])


def _solved(
    objective: Array,
    upper: Array,
    shape: tuple[int, ...],
    constraints: Sequence[Bound],
    links: Sequence[Link],
) -> Array | None:
    """The variables of least objective; None where none keep to the constraints."""
    highspy = _highs()
    nodes, choices = shape
    whole = np.arange(len(objective)) < nodes * choices
    each = np.arange(nodes * choices).reshape(shape)
    one = [Bound(of_node, np.ones(choices), 1.0, 1.0) for of_node in each]
    bounds = [*one, *constraints, *_linked(shape, links)]
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(objective), len(bounds)
    model.col_cost_, model.col_lower_, model.col_upper_ = objective, 0 * upper.clip(max=1), upper
    model.row_lower_ = np.array([bound.least for bound in bounds])
    model.row_upper_ = np.array([bound.most for bound in bounds])
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.cumsum([0, *(len(bound.values) for bound in bounds)])
    model.a_matrix_.index_ = np.concatenate([bound.variables for bound in bounds])
    model.a_matrix_.value_ = np.concatenate([bound.values for bound in bounds])
    kinds = highspy.HighsVarType
    model.integrality_ = [kinds.kInteger if is_whole else kinds.kContinuous for is_whole in whole]
    return _run(highspy, model)


def _run(highspy: Any, model: Any) -> Array | None:
    """The variables of least objective; None for a model that has none."""
    options = {"output_flag": False, "time_limit": SECONDS, "mip_rel_gap": GAP}
    with _silence():
        solver = highspy.Highs()
        for name, value in options.items():
            solver.setOptionValue(name, value)
        solver.passModel(model)
        solver.run()
    status, found = solver.getModelStatus(), solver.getSolution()
    if status == highspy.HighsModelStatus.kInfeasible:
        return None
    if not found.value_valid:
        said = solver.modelStatusToString(status)
        raise PlanError(f"the integer program was not solved: {said}")
    return np.array(found.col_value)


def _linked(shape: tuple[int, ...], links: Sequence[Link]) -> Iterator[Bound]:
    """What c and y of each link keep to."""
    nodes, choices = shape

    def bound(node: int, sign: float, others: dict[int, float]) -> Bound:
        quantized = range(node * choices, (node + 1) * choices - 1)
        values = [*(sign for _ in quantized), *others.values()]
        return Bound([*quantized, *others], values, -np.inf, 0.0)

    for k, link in enumerate(links):
        c = nodes * choices + 1 + 2 * k
        for reader in link.readers:
            yield bound(reader, 1.0, {c: -1.0, c + 1: -1.0})
        quantizing = link.readers if link.writer is None else (*link.readers, link.writer)
        for node in quantizing:
            yield bound(node, -1.0, {c + 1: 1.0})


@contextmanager
def _silence() -> Iterator[None]:
    """What C code writes to stdout is dropped: HiGHS prints its name before an option can switch
    that off, and results go to stdout."""
    try:
        kept = os.dup(1)
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # no stdout, or Windows
        yield
        return
    sys.stdout.flush()
    libc.fflush(None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        libc.fflush(None)
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)
