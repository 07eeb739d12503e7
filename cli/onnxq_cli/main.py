"""`onnxq`: the group of commands, and what every command does with errors.

Exit codes: 0 done; 1 it ran and the answer is no, or onnxq itself failed; 2 it could not run, with
one line that says what, where and how to mend it; 130 interrupted.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from onnxq import __version__
from onnxq.errors import OnnxqError
from onnxq.files import LEFT
from onnxq_cli import streams
from onnxq_cli.paths import keep_inputs
from onnxq_cli.signals import INTERRUPTED, end, handle_signals
from onnxq_cli.verbosity import add_verbosity, listen

COMMANDS = {  # in the order of the pipeline
    "quantize": "Quantize MODEL: the whole pipeline.",
    "prepare": "Fold BatchNorm and constants, as before planning.",
    "plan": "Write where MODEL is quantized and why to plan.yaml.",
    "calibrate": "Write the ranges of MODEL's tensors to ranges.json.",
    "finetune": "Quantize MODEL, and learn against the float model.",
    "build": "Build an engine, and say what runs in which precision.",
    "engine": "Show what TensorRT says of an engine, node by node.",
    "sensitivity": "Rank the nodes by the damage that quantizing each does.",
    "search": "Find the cheapest mixed-precision plan that scores well.",
    "tune": "Quantize MODEL in the cheapest way that meets a goal.",
    "recipe": "Leave the worst nodes float, as few as are needed.",
    "compare": "Compare a quantized model or engine with the float model.",
    "inspect": "Show what of MODEL is quantized, how and why.",
    "diff": "Show how two quantized models differ.",
    "lint": "Say what TensorRT will refuse or run slowly, and the fix.",
    "report": "Write one self-contained HTML page about a model.",
    "plot": "Draw a histogram, a ranking or a search for papers.",
    "merge-stats": "Add up the statistics of shards.",
    "data": "Write calibration data in another tool's form.",
    "doctor": "Show versions and what works here.",
}


class Commands(click.Group):
    """Loads a command's module when it is asked for, so that `--help` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of the pipeline."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, of which no module is loaded."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name == "help":
            return help_command
        if cmd_name not in COMMANDS:
            near = difflib.get_close_matches(cmd_name, COMMANDS, 1, cutoff=0.5)
            meant = f"do you mean '{near[0]}'?" if near else "see 'onnxq --help'"
            raise click.ClickException(f"there is no command '{cmd_name}'; {meant}")
        module = importlib.import_module(f"onnxq_cli.{cmd_name.replace('-', '_')}_command")
        command: click.Command = module.command
        command.name, command.short_help = cmd_name, COMMANDS[cmd_name]
        add_verbosity(command)
        keep_inputs(command)
        return command


@click.command(name="help", hidden=True)
@click.argument("words", nargs=-1)
@click.pass_context
def help_command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command: `onnxq help plot histogram` is `onnxq plot histogram --help`."""
    cli.main(args=[*words, "--help"], prog_name="onnxq", standalone_mode=False, obj=ctx.obj)


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: onnxq quantize fixtures/centerpoint/backbone_neck_head.onnx "
    "--calib fixtures/centerpoint/calib.npy --skip deblocks",
)
@click.version_option(__version__, prog_name="onnxq")
def cli() -> None:
    """Quantize exported ONNX graphs for TensorRT."""


add_verbosity(cli)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: run a command, turn every user's mistake into one line and exit code 2."""
    try:
        streams.prepare()
        handle_signals()
        code = run(args)
    except KeyboardInterrupt:  # before the command began, or behind it
        code = _say(f"interrupted; {LEFT}", INTERRUPTED)
    if code == INTERRUPTED:  # threads of a pool may be in the midst of something long
        end(code)
    sys.exit(code)


def run(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, and leaves logging as it was."""
    log = logging.getLogger("onnxq")
    level, handlers = log.level, log.handlers[:]
    listen()
    LEFT.clear()
    try:
        return _run(args)
    finally:
        log.setLevel(level)
        log.handlers[:] = handlers


def _run(args: Sequence[str] | None) -> int:
    try:
        words = list(sys.argv[1:] if args is None else args)
        result = cli.main(args=words, prog_name="onnxq", standalone_mode=False, obj=words)
        sys.stdout.flush()  # or what cannot be written comes up after everything
        return result if isinstance(result, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _say(f"interrupted; {LEFT}", INTERRUPTED)
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.exceptions.NoArgsIsHelpError as e:
        print(e.format_message(), file=sys.stderr)
        return 2
    except click.UsageError as e:
        where = f" (see '{e.ctx.command_path} --help')" if e.ctx else ""
        return _say(e.format_message() + where, 2)
    except click.ClickException as e:
        return _say(e.format_message(), 2)
    except OnnxqError as e:
        _trace()
        return _say(str(e), 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        return _say(_os_error(e), 2)
    except MemoryError:
        return _say("out of memory; try fewer --workers, or a machine with more", 2)
    except Exception as e:  # what nobody foresaw
        _trace()
        return _say(_internal(e), 1)


def _trace() -> None:
    """With -vv: the traceback of the error that is being handled."""
    if logging.getLogger("onnxq").isEnabledFor(logging.DEBUG):
        for line in traceback.format_exc().splitlines():
            streams.err(line)


def _internal(e: Exception) -> str:
    """A fault of onnxq's own: what it is, and the last place in onnxq that it went through."""
    ours = {"onnxq", "onnxq_cli"}
    frames = [(Path(f.filename), f.lineno) for f in traceback.extract_tb(e.__traceback__)]
    places = [f"{'/'.join(path.parts[i:])}:{line}" for path, line in frames
              for i in [max((k for k, part in enumerate(path.parts) if part in ours), default=-1)]
              if i >= 0]  # fmt: skip
    where = f" in {places[-1]}" if places else ""
    said = " ".join(str(e).split())[:300]
    return (f"internal error: {type(e).__name__}: {said}{where}; run again with -vv for the trace, "
            "and report it to the project")  # fmt: skip


def _os_error(e: OSError) -> str:
    where = f" '{e.filename}'" if e.filename else ""
    if e.errno == errno.ENOSPC:
        return f"the disk is full{where}; free some space, nothing half-written was left"
    return f"cannot use{where}: {e.strerror or e}"


def _say(message: str, code: int) -> int:
    streams.err(f"onnxq: {message}")
    return code
