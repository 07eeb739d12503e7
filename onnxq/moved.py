"""Modules that had other names in 0.1: the old name still imports, with a warning that says the
new one."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {  # within onnxq
    "accuracy": "judge.accuracy",
    "calib.layout": "run.layout",
    "calib.on_device": "run.on_device",
    "calib.program": "run.program",
    "cluster.counting": "pipeline.counting",
    "cluster.opening": "pipeline.opening",
    "config": "pipeline.config",
    "damage": "model.damage",
    "graph": "model.graph",
    "optimizers": "run.optimizers",
    "patterns": "model.patterns",
    "providers": "run.providers",
    "python_ops": "run.python_ops",
    "recover.judge": "judge.verdict",
    "recover.jury": "judge.jury",
    "recover.replay": "run.replay",
    "recover.stages": "pipeline.recoveries",
    "report.manifest": "pipeline.manifest",
    "runtime": "run.runtime",
    "search.branches": "judge.parts",
    "search.cost": "cost.counted",
    "search.devices": "cost.devices",
    "segments": "run.segments",
    "sensitivity.metric_function": "judge.metrics.function",
    "sensitivity.metrics": "judge.metrics",
    "sensitivity.setup": "sensitivity.analysis",
    "sensitivity.work": "sensitivity.analysis",
    "source": "pipeline.source",
    "steps": "pipeline.steps",
    "stored": "model.stored",
    "targets.flow": "model.flow",
    "trt.shapes": "model.input_shapes",
}


class OldNames(Loader, MetaPathFinder):
    """Finds a module by its old name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for an old name, None for every other."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "onnxq" and name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the new name in the place of `module`."""
        new = f"onnxq.{MOVED[module.__name__.removeprefix('onnxq.')]}"
        warnings.warn(f"'{module.__name__}' is now '{new}'", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)
