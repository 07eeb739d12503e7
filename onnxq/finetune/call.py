"""A node as a function of torch sees it, and what the functions share.

A function takes the call and the inputs, None for one that is left out, and returns a tensor, or a
tuple of several. Shapes are tensors of integers on the CPU, as everything that decides a shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Function = Callable[..., Any]  # (Call, *tensors) -> tensor, or a tuple of them


@dataclass(frozen=True)
class Call:
    """Type and name of a node, its attributes, and how many outputs it has."""

    op: str
    name: str
    attrs: Mapping[str, Any]
    outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what it is by default."""
        return self.attrs.get(name, default)


def listed(call: Call, name: str, given: torch.Tensor | None) -> list[int] | None:
    """Integers that older opsets have as an attribute and newer ones as an input; None where
    neither is there."""
    if given is not None:
        return [int(i) for i in given.reshape(-1).tolist()]
    found = call.get(name)
    return None if found is None else [int(i) for i in np.atleast_1d(found)]


def number(value: Any) -> float:
    """The number that a constant tensor of one value holds."""
    return float(value.reshape(-1)[0])


def near(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """The tensors on one device: that of the first that is not on the CPU."""
    device = next((t.device for t in tensors if t.device.type != "cpu"), tensors[0].device)
    return [t.to(device) for t in tensors]
