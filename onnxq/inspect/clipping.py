"""What the scales of a Q/DQ model clip, measured on data; for models without a manifest."""

from __future__ import annotations

from collections import Counter

import numpy as np

from onnxq.calib.data import Dataset
from onnxq.inspect.reading import Reading
from onnxq.judge.accuracy import outputs
from onnxq.model import graph as graphs
from onnxq.model.graph import is_output
from onnxq.passes.apply import apply
from onnxq.passes.name_nodes import name_nodes
from onnxq.pipeline.config import Config
from onnxq.pipeline.steps import runtime_of
from onnxq.progress import count, stage


@stage("clipping")
def clipping(reading: Reading, dataset: Dataset, config: Config) -> dict[str, float]:
    """Activation -> share of its values beyond what its scale can hold.

    The model runs as it is, Q/DQ included, a sample at a time with all these tensors as outputs. A
    tensor that is quantized in two ways gets the larger share. Where codes begin at 0, what is
    below does not count: it is a Relu that the codes stand for, and some tools take out.
    """
    graph = apply(graphs.load(reading.path), name_nodes)
    there, inputs = graph.tensors(), {t.name for t in graph.inputs}
    ends: dict[str, list[tuple[float, float]]] = {}
    for tensor in reading.tensors:
        if tensor.kind == "activation" and tensor.interval is not None and tensor.name in there:
            low, high = tensor.interval
            ends.setdefault(tensor.name, []).append((-np.inf if low == 0 else low, high))
    graph.outputs += [t for name in ends if name not in inputs
                      and not is_output(graph, t := there[name])]  # fmt: skip
    beyond: Counter[tuple[str, int]] = Counter()
    seen: Counter[str] = Counter()
    runs = outputs(graphs.to_proto(graph), dataset, runtime=runtime_of(config))
    for done, (feed, values) in enumerate(zip(dataset, runs, strict=True), 1):
        for name, limits in ends.items():
            x = (values if name in values else feed)[name]
            seen[name] += x.size
            for i, (low, high) in enumerate(limits):
                beyond[name, i] += int(np.count_nonzero((x < low) | (x > high)))
        count(done, len(dataset))
    return {
        name: max(beyond[name, i] for i, _ in enumerate(limits)) / max(seen[name], 1)
        for name, limits in ends.items()
    }
