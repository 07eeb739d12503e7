"""The integer program: the precision of each node for the least damage within a cost.

    minimize    z + 0.01 * mean over outputs of their damage
    where       z >= sum over nodes, choices of  damage[node, choice, output] * x[node, choice]
                limit >= sum of  cost[node, choice] * x[node, choice]
                sum over choices of  x[node, choice] = 1,  x in {0, 1}

Damage is scaled so that the worst choice for every node makes `SCALE` at the worst output, and
costs by `SCALE` too: the solver's tolerances are absolute, 1e-6, and good plans do some thousandths
of the damage of the worst. The second term keeps outputs apart from the worst from being spoilt
for nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


def solve(cost: Array, damage: Array, limit: float) -> list[int] | None:
    """The choice of every node; None where no choices cost as little as `limit`.

    cost: [nodes, choices], infinite for a choice that a node does not have. damage: [nodes,
    choices, outputs], at least 0.
    """
    scipy = _scipy()
    nodes, choices, outputs = damage.shape
    offered = np.isfinite(cost)
    cost = np.where(offered, cost, 0.0)
    damage = np.where(offered[..., None], np.clip(damage, 0.0, LARGEST), 0.0)
    worst = damage.max(axis=1).sum(axis=0).max()
    scaled = damage * (SCALE / worst) if worst else damage
    flat = scaled.reshape(nodes * choices, outputs)
    objective = np.append(OTHERS * flat.mean(axis=1), 1.0)
    sparse = scipy.sparse
    each = sparse.kron(sparse.identity(nodes), np.ones((1, choices)))
    constraints = [
        scipy.optimize.LinearConstraint(sparse.hstack([each, sparse.csr_array((nodes, 1))]), 1, 1),
        scipy.optimize.LinearConstraint(
            np.append(SCALE * cost.reshape(-1), 0.0), -np.inf, SCALE * (limit + SLACK)
        ),
        scipy.optimize.LinearConstraint(np.hstack([flat.T, -np.ones((outputs, 1))]), -np.inf, 0),
    ]
    with _silence():
        solution = scipy.optimize.milp(
            objective,
            constraints=constraints,
            integrality=np.append(np.ones(nodes * choices), 0),
            bounds=scipy.optimize.Bounds(0, np.append(offered.reshape(-1).astype(float), np.inf)),
            options={"time_limit": SECONDS, "mip_rel_gap": 1e-6},
        )
    if solution.x is None:
        if solution.status == 2:  # infeasible
            return None
        raise PlanError(f"the integer program was not solved: {solution.message}")
    return [int(i) for i in solution.x[:-1].reshape(nodes, choices).argmax(axis=1)]


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
