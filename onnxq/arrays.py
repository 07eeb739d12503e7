"""What data is: arrays by the name of the input or output that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

Array = npt.NDArray[Any]
Sample = Mapping[str, Array]


class Samples(Protocol):
    """Data that can be read more than once, sample by sample."""

    def __len__(self) -> int: ...

    def sample(self, i: int) -> Sample: ...
