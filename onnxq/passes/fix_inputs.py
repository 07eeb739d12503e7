"""Make inputs of a model constants: what they choose is then decided.

The input stays among the model's, unread, so that whoever runs the model gives what they gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxq.errors import PlanError
from onnxq.model.graph import Graph, Tensor, constant_from
from onnxq.model.other_types import Other
from onnxq.passes.name_nodes import names_of, unique_name
from onnxq.passes.remove_identity import replace_tensor


def fixed(texts: Sequence[str]) -> dict[str, float]:
    """Input -> its value, as NAME=VALUE texts say; a name may hold '='. Raises PlanError."""
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not name or not equals:
            raise PlanError(f"--fix '{text}' is not NAME=VALUE with a number, such as sr=16000")
    return found


def fix_inputs(values: Mapping[str, float]) -> Callable[[Graph], int]:
    """The pass that lets every node read constants in place of these inputs, each value at every
    place of a shape that is known; it raises PlanError for what is no such input."""

    def fix(graph: Graph) -> int:
        inputs = {t.name: t for t in graph.inputs}
        for name, value in values.items():
            if name not in inputs:
                known = ", ".join(map(repr, inputs))
                raise PlanError(f"--fix {name}: the model has no such input; it has {known}")
            constant = _constant(inputs[name], value, unique_name(f"{name}_fixed", names_of(graph)))
            replace_tensor(inputs[name], constant)
            graph.outputs = [constant if t is inputs[name] else t for t in graph.outputs]
        return len(values)

    return fix


def _constant(tensor: Tensor, value: float, name: str) -> Tensor:
    """An input's value as a constant."""
    shape, dtype = tensor.shape, tensor.dtype
    if shape is None or not all(isinstance(d, int) for d in shape):
        raise PlanError(f"--fix {tensor.name}: its shape is not fixed, {shape}; one value alone "
                        "does not say how many there are")  # fmt: skip
    if dtype is None or isinstance(dtype, int | Other):
        raise PlanError(f"--fix {tensor.name}: it is not an input of numbers")
    found = np.full(shape, value, np.dtype(dtype))
    if float(found.reshape(-1)[0] if found.size else value) != value:
        raise PlanError(f"--fix {tensor.name}={value:g}: {np.dtype(dtype)} cannot hold it")
    return constant_from(name, found)
