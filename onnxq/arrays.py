"""What data is: arrays by the name of the input or output that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

Array = npt.NDArray[Any]
Sample = Mapping[str, Array]


class Samples(Protocol):
    """Data that can be read more than once, sample by sample."""

    def __len__(self) -> int: ...

    def sample(self, i: int) -> Sample: ...


@runtime_checkable
class Sequential(Samples, Protocol):
    """Samples some of which follow others in a sequence.

    feedback: output of a model -> the input that it becomes in the sample that follows.
    """

    @property
    def feedback(self) -> Mapping[str, str]: ...

    def follows(self, i: int) -> bool: ...
