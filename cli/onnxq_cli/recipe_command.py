"""`onnxq recipe`: baseline, INT8, sensitivity, the worst K left float, in one folder."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxq.errors import OnnxqError
from onnxq.pipeline.config import Config
from onnxq.progress import stage
from onnxq.search.options import SearchOptions
from onnxq.verbs.searching import COUNTS
from onnxq_cli import streams
from onnxq_cli.fields import IN, numbers, option, options_of
from onnxq_cli.options import (
    calib_option,
    config_option,
    json_option,
    placement_options,
    plan_option,
)
from onnxq_cli.paths import beside, check_folder
from onnxq_cli.progress import Bars
from onnxq_cli.searching import (
    evaluation_of,
    goal_options,
    measuring,
    search_config,
)
from onnxq_cli.sections import verb

if TYPE_CHECKING:
    from onnxq.api import Quantized
    from onnxq.search import Recipe


RECIPE = "recipe.json"  # in each folder that the command made


@verb(
    "onnxq recipe fixtures/classifier/classifier.onnx "
    "--calib fixtures/classifier/calib.npy --worst 0,1,3 --min-sqnr 41",
    first="calib folder worst max_drop min_sqnr metric scheme target skip",
    old={"--top": "--worst"},
)
@click.argument("model", type=IN)
@calib_option()
@option("--worst", callback=numbers, metavar="K,...", help="Leave the worst K nodes float, for "
        f"each K. Default: {','.join(map(str, COUNTS))}, as far as there are nodes.")  # fmt: skip
@goal_options
@options_of(SearchOptions, besides=("trials", "points"))
@placement_options
@options_of(Config, besides=("max_memory",))
@config_option
@plan_option("Start from this plan.yaml.")
@option("-o", "--out", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
        named=beside(".recipe"),
        help="Folder to write; that of an earlier recipe is replaced. Default: MODEL with "
        ".recipe.")  # fmt: skip
@json_option()
def command(**options: Any) -> int:
    """Quantize MODEL with the worst nodes left float, as few as are needed.

    Measures the float model, INT8, and INT8 without the worst K nodes for each K of --worst. Takes
    the least K within --max-drop or --min-sqnr, else the best. Writes the model, its plan,
    configuration, manifest and reports to one folder. Exit code 1 if no K is within the bound; the
    best is written all the same.
    """
    from onnxq import api
    from onnxq.plan import Plan
    from onnxq.report import recipe as report
    from onnxq.report import text
    from onnxq.terminal import line

    model, folder = options["model"], options["folder"]
    if folder.exists() and not (folder / RECIPE).is_file():
        raise OnnxqError(f"'{folder}' is there and no recipe made it; name another folder")
    check_folder(folder)
    config, _ = search_config(options)
    start = Plan.load(options["plan_path"]) if options["plan_path"] else None
    with Bars() as bars:
        found = api.recipe(
            model, options["calib"], measuring(options), config, evaluation_of(options),
            counts=options["worst"], plan_from=start, progress=bars,
        )  # fmt: skip
        # not with the recipe's statistics: a recovery may change the graph
        result = api.quantize(model, options["calib"], config, plan_from=found.plan, progress=bars)
        with stage("write"), _new_folder(folder) as unfinished:
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
    clear = partial(shutil.rmtree, made, ignore_errors=True)
    atexit.register(clear)  # for an end that does not unwind
    try:
        yield made
        umask = os.umask(0)
        os.umask(umask)
        made.chmod(0o777 & ~umask)
        if folder.exists():
            old = made.with_suffix(".old")
            folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        made.rename(folder)
    finally:
        clear()
        atexit.unregister(clear)


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
        RECIPE: found.to_json(),
        "recipe.md": recipe.markdown(found),
        "skip.txt": found.ranking.skip_list(found.chosen.count),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
