"""onnxq: quantize exported ONNX graphs for TensorRT.

    result = onnxq.quantize("model.onnx", ["calib.npy"])
    onnxq.write(result, "model.int8.onnx")

What commands do are functions here, those of `onnxq.api`; each is loaded when first used, so
`import onnxq` is fast. No name here is that of a module: the verbs of `onnxq plan`, `sensitivity`,
`search`, `inspect` and `report` are called make_plan, rank_nodes, search_plan, inspect_model and
write_report.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from onnxq.moved import OldNames

if TYPE_CHECKING:
    from onnxq.api import (
        Built,
        Calibrated,
        Evaluation,
        FromCache,
        Inspection,
        Linted,
        Quantized,
        Ranked,
        Searched,
        Source,
        build,
        build_fleet,
        calibrate,
        calibrate_model,
        compare,
        compare_layers,
        compare_models,
        data,
        data_through,
        diff,
        doctor,
        does_it_pay,
        finetune_model,
        insert,
        inspect_model,
        judge_device,
        lint,
        make_plan,
        mend,
        merge_stats,
        open_model,
        plot_histogram,
        plot_pareto,
        plot_ranking,
        prepare,
        quantize,
        ranges_from_cache,
        rank_nodes,
        read_layers,
        read_ranges,
        recipe,
        runtime_of,
        save_golden,
        search_plan,
        sign_data,
        to_high_precision,
        tune,
        write,
        write_cache,
        write_data,
        write_prepared,
        write_report,
    )
    from onnxq.finetune.options import FinetuneOptions
    from onnxq.ladder.goal import Goal
    from onnxq.ladder.result import Rung, Tuned
    from onnxq.pipeline.config import Config
    from onnxq.search.budget import Budget, budget_of
    from onnxq.search.options import SearchOptions
    from onnxq.sensitivity.options import Options as RankOptions
    from onnxq.targets.options import PlanOptions
    from onnxq.trt.build import BuildOptions
    from onnxq.trt.compare import Thresholds

__version__ = "0.2.0"
__all__ = [
    "Budget", "BuildOptions", "Built", "Calibrated", "Config", "Evaluation", "FinetuneOptions",
    "FromCache", "Goal", "Inspection", "Linted", "PlanOptions", "Quantized", "RankOptions",
    "Ranked", "Rung", "SearchOptions", "Searched", "Source", "Thresholds", "Tuned", "budget_of",
    "build", "build_fleet", "calibrate", "calibrate_model", "compare", "compare_layers",
    "compare_models", "data", "data_through", "diff", "doctor", "does_it_pay", "finetune_model",
    "insert", "inspect_model", "judge_device", "lint", "make_plan", "mend", "merge_stats",
    "open_model", "plot_histogram", "plot_pareto", "plot_ranking", "prepare", "quantize",
    "ranges_from_cache", "rank_nodes", "read_layers", "read_ranges", "recipe", "runtime_of",
    "save_golden", "search_plan", "sign_data", "to_high_precision", "tune", "write", "write_cache",
    "write_data", "write_prepared", "write_report",
]  # fmt: skip
_ELSEWHERE = {  # what is no verb -> its module, and its name there where that is another
    "Budget": "onnxq.search.budget",
    "BuildOptions": "onnxq.trt.build",
    "Config": "onnxq.pipeline.config",
    "FinetuneOptions": "onnxq.finetune.options",
    "Goal": "onnxq.ladder.goal",
    "PlanOptions": "onnxq.targets.options",
    "RankOptions": "onnxq.sensitivity.options:Options",
    "Rung": "onnxq.ladder.result",
    "SearchOptions": "onnxq.search.options",
    "Thresholds": "onnxq.trt.compare",
    "Tuned": "onnxq.ladder.result",
    "budget_of": "onnxq.search.budget",
}

sys.meta_path.append(OldNames())

if not TYPE_CHECKING:  # else every name would be one that there is

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'onnxq' has no attribute '{name}'")
        module, _, renamed = _ELSEWHERE.get(name, "onnxq.api").partition(":")
        return getattr(importlib.import_module(module), renamed or name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
