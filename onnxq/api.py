"""The verbs, and the values that they take and return: compositions, no algorithms."""

from onnxq.pipeline.quantize import write
from onnxq.pipeline.recoveries import recover
from onnxq.pipeline.steps import (
    Source,
    calibrate,
    compare,
    data,
    insert,
    open_model,
    plan,
    prepare,
    read,
    runtime_of,
    to_high_precision,
)
from onnxq.sensitivity import sensitivity
from onnxq.verbs.caches import FromCache, ranges_from_cache, write_cache
from onnxq.verbs.calibrating import Calibrated, calibrate_model
from onnxq.verbs.doctor import doctor
from onnxq.verbs.engines import Built, Linted, build, build_fleet, lint, mend
from onnxq.verbs.evaluation import Evaluation
from onnxq.verbs.finetuning import finetune_model
from onnxq.verbs.golden import judge_device, save_golden
from onnxq.verbs.layers import compare_layers, does_it_pay, read_layers
from onnxq.verbs.models import Inspection, compare_models, diff, inspect_model
from onnxq.verbs.piping import data_through
from onnxq.verbs.plots import plot_histogram, plot_pareto, plot_ranking
from onnxq.verbs.quantizing import Quantized, quantize
from onnxq.verbs.ranking import Ranked, rank_nodes
from onnxq.verbs.saving import merge_stats, sign_data, write_data, write_prepared, write_report
from onnxq.verbs.searching import Searched, recipe, search_plan
from onnxq.verbs.tuning import tune

__all__ = [
    "Built",
    "Calibrated",
    "Evaluation",
    "FromCache",
    "Inspection",
    "Linted",
    "Quantized",
    "Ranked",
    "Searched",
    "Source",
    "build",
    "build_fleet",
    "calibrate",
    "calibrate_model",
    "compare",
    "compare_layers",
    "compare_models",
    "data",
    "data_through",
    "diff",
    "doctor",
    "does_it_pay",
    "finetune_model",
    "insert",
    "inspect_model",
    "judge_device",
    "lint",
    "make_plan",
    "mend",
    "merge_stats",
    "open_model",
    "plan",
    "plot_histogram",
    "plot_pareto",
    "plot_ranking",
    "prepare",
    "quantize",
    "ranges_from_cache",
    "rank_nodes",
    "read",
    "read_layers",
    "read_ranges",
    "recipe",
    "recover",
    "runtime_of",
    "save_golden",
    "search_plan",
    "sensitivity",
    "sign_data",
    "to_high_precision",
    "tune",
    "write",
    "write_cache",
    "write_data",
    "write_prepared",
    "write_report",
]

make_plan, read_ranges = plan, read  # the names of these verbs where others are in the way
