"""`onnxq recipe`: baseline, INT8, sensitivity, the worst K left float, in one folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq.errors import OnnxqError
from onnxq_cli import streams
from onnxq_cli.options import (
    IN,
    config_option,
    data_options,
    method_option,
    ort_library_option,
    placement_options,
    provider_option,
    range_options,
)
from onnxq_cli.paths import check_folder
from onnxq_cli.progress import Bars
from onnxq_cli.searching import (
    budget_options,
    measuring,
    metric_options,
    samples_of,
    search_config,
)
from onnxq_cli.sensitivity_command import numbers

if TYPE_CHECKING:
    from onnxq.api import Quantized
    from onnxq.pipeline.config import Config
    from onnxq.search import Recipe


TOP = (0, 1, 2, 3, 5, 8)


@click.command(
    name="recipe",
    short_help="Leave the worst nodes float, as few as are needed.",
    epilog="Example: onnxq recipe fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --top 0,1,3 --min-sqnr 41 -o classifier-int8",
)
@click.argument("model", type=IN)
@data_options()
@click.option("--top", callback=numbers, metavar="K,...", help="Leave the worst K nodes float, for "
              "each K. Default: 0,1,2,3,5,8, as far as there are nodes.")  # fmt: skip
@budget_options
@metric_options
@placement_options
@method_option
@range_options
@ort_library_option
@provider_option
@config_option
@click.option("--plan", "plan_path", type=IN, help="Start from this plan.yaml.")
@click.option("-o", "--out", "folder", type=click.Path(path_type=Path), required=True,
              metavar="FOLDER", help="Folder to make; it must not exist.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(**options: Any) -> int:
    """Quantize MODEL with the worst nodes left float, as few as are needed.

    Measures the float model, INT8, and INT8 without the worst K nodes for each K of --top, takes
    the least K within --max-drop or --min-sqnr, else the best, and writes the model, its plan,
    configuration, manifest and reports to one folder. Exit code 1 where no K is within the bound;
    the best is written all the same.
    """
    from onnxq import api
    from onnxq.plan import Plan
    from onnxq.report import recipe as report
    from onnxq.report import text
    from onnxq.search import recipe
    from onnxq.terminal import line

    model, folder = options["model"], options["folder"]
    if folder.exists():
        raise OnnxqError(f"'{folder}' is there already; name a folder that does not exist")
    check_folder(folder)
    config, _ = search_config(options)
    asked = measuring(options)
    start = Plan.load(options["plan_path"]) if options["plan_path"] else None
    source = api.prepare(model, config, start)
    plan = start or api.plan(source, config)
    plan.check_model(source.sha256)
    samples, asked = samples_of(source, config, asked, options)
    with Bars() as bars:
        stats = api.calibrate(source, plan, samples.rest, config, bars)
        top = options["top"] or tuple(k for k in TOP if k <= len(plan.nodes))
        found = recipe(source, plan, stats, samples, top, asked, config, bars)
        # not with these statistics: a recovery may change the graph
        result = api.quantize(model, options["calib"], config, plan_from=found.plan, progress=bars)
    with _new_folder(folder) as unfinished:
        _write(unfinished, found, result, config, model)
    if options["as_json"]:
        streams.out(found.to_json().rstrip("\n"))
    else:
        text.show(report.render(found))
        names = ", ".join(sorted(p.name for p in folder.iterdir()))
        text.show(line(f"written to {folder}: {names}"))
    if not found.holds:
        streams.err(f"onnxq: {report.summary(found)}")
    return 0 if found.holds else 1


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` at the end, or goes away on an error."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield made
        umask = os.umask(0)
        os.umask(umask)
        made.chmod(0o777 & ~umask)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(folder: Path, found: Recipe, result: Quantized, config: Config, model: Path) -> None:
    from onnxq import api
    from onnxq.report import ranking, recipe

    api.write(result, folder / f"{model.stem}.int8.onnx", config)
    result.plan.save(folder / "plan.yaml")
    result.stats.save(folder / "stats.npz")
    result.ranges.save(folder / "ranges.json")
    config.save(folder / "config.yaml")
    for suffix in (".csv", ".json", ".md"):
        ranking.save(found.ranking, folder / f"ranking{suffix}")
    texts = {
        "recipe.csv": found.to_csv(),
        "recipe.json": found.to_json(),
        "recipe.md": recipe.markdown(found),
        "skip.txt": found.ranking.skip_list(found.chosen.count),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
