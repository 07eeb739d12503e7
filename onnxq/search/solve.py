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
SECONDS = 30.0  # the best found by then is taken
SCALE = 1000.0
LARGEST = 10.0  # noise over signal: beyond an SQNR of -10 dB nothing is worse than something else


def require() -> None:
    """Raises RuntimeMissing where there is no scipy."""
    _scipy()


def _scipy() -> Any:
    try:
        import scipy.optimize
        import scipy.sparse
    except ImportError as e:
        raise RuntimeMissing('searching needs scipy; pip install "onnxq[search]"') from e
    return scipy


@dataclass(frozen=True)
class Link:
    """A tensor between nodes, by their numbers: what converting it costs, what is saved where it is
    stored in few bits, and whether it can be. writer: None where any writer can."""

    writer: int | None
    readers: tuple[int, ...]
    convert: float
    saved: float
    able: bool


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
    scipy = _scipy()
    nodes, choices, outputs = damage.shape
    row, upper = _variables(cost, links)
    damage = np.where(np.isfinite(cost)[..., None], np.clip(damage, 0.0, LARGEST), 0.0)
    worst = damage.max(axis=1).sum(axis=0).max()
    scaled = damage * (SCALE / worst) if worst else damage
    flat = scaled.reshape(nodes * choices, outputs)
    others = np.zeros(2 * len(links))
    objective = np.concatenate([OTHERS * flat.mean(axis=1), [1.0], others])
    worst_output = np.hstack([flat.T, -np.ones((outputs, 1)), np.zeros((outputs, len(others)))])
    constraints = [
        scipy.optimize.LinearConstraint(SCALE * row, -np.inf, SCALE * (limit + SLACK)),
        scipy.optimize.LinearConstraint(worst_output, -np.inf, 0),
    ]
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
    constraints: Sequence[Any],
    links: Sequence[Link],
) -> Array | None:
    """The variables of least objective; None where none keep to the constraints."""
    scipy = _scipy()
    nodes, choices = shape
    each = scipy.sparse.kron(scipy.sparse.identity(nodes), np.ones((1, choices)))
    rest = scipy.sparse.csr_array((nodes, len(objective) - nodes * choices))
    one = scipy.optimize.LinearConstraint(scipy.sparse.hstack([each, rest]), 1, 1)
    kinds = np.append(np.ones(nodes * choices), np.zeros(len(objective) - nodes * choices))
    with _silence():
        solution = scipy.optimize.milp(
            objective,
            constraints=[one, *constraints, *_linked(shape, links)],
            integrality=kinds,
            bounds=scipy.optimize.Bounds(0, upper),
            options={"time_limit": SECONDS, "mip_rel_gap": 1e-6},
        )
    if solution.x is None:
        if solution.status == 2:  # infeasible
            return None
        raise PlanError(f"the integer program was not solved: {solution.message}")
    found: Array = solution.x
    return found


def _linked(shape: tuple[int, ...], links: Sequence[Link]) -> list[Any]:
    """What c and y of each link keep to."""
    nodes, choices = shape
    entries: list[tuple[int, float, dict[int, float]]] = []
    for k, link in enumerate(links):
        c = nodes * choices + 1 + 2 * k
        for reader in link.readers:
            entries.append((reader, 1.0, {c: -1.0, c + 1: -1.0}))
        quantizing = link.readers if link.writer is None else (*link.readers, link.writer)
        entries += [(node, -1.0, {c + 1: 1.0}) for node in quantizing]
    if not entries:
        return []
    scipy = _scipy()
    table = scipy.sparse.lil_array((len(entries), nodes * choices + 1 + 2 * len(links)))
    for i, (node, sign, others) in enumerate(entries):
        table[i, node * choices : (node + 1) * choices - 1] = sign
        for j, value in others.items():
            table[i, j] = value
    return [scipy.optimize.LinearConstraint(table.tocsr(), -np.inf, 0)]


@contextmanager
def _silence() -> Iterator[None]:
    """What C code writes to stdout is dropped: HiGHS has a line that its options do not switch off,
    and results go to stdout."""
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
