"""Ctrl-C in any stage of any command: one line, exit code 130, nothing half-written, at once."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")])}
SOON = 5.0  # seconds; it takes a tenth, and two where threads do not end, but machines are busy

pytestmark = pytest.mark.skipif(os.name != "posix", reason="uses signals of POSIX")

# A signal as a terminal sends it, once a stage has begun; whose bars are shown all the same.
AT = r"""
import os, signal, sys, threading
from onnxq_cli import progress
from onnxq_cli.main import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
shown, wanted = progress.Bars.__call__, sys.argv.pop(1)

def call(self, stage, done, total):
    shown(self, stage, done, total)
    if stage == wanted:
        os.write(1, b"now\n")  # what is printed goes above the bars
        os.kill(os.getpid(), signal.SIGINT)

progress.Bars.__call__ = call
main()
"""
STUCK = """
import signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from onnxq.files import replacing, together
from onnxq_cli.main import INTERRUPTED
from onnxq_cli.signals import handle_signals

signal.signal(signal.SIGINT, signal.default_int_handler)
handle_signals()
with together(), replacing(Path("out")) as temporary, ThreadPoolExecutor(2) as pool:
    temporary.write_text("half")
    pool.submit(time.sleep, 60)
    print("now", flush=True)
    time.sleep(60) if sys.argv[1] == "waits" else threading.Event().wait()
"""


def ended(code, words, folder, terminal=False, kill=None):
    """(exit code, what stood on stderr, seconds after the signal) of a script, interrupted."""
    main, end = os.openpty() if terminal else os.pipe()
    env = {**ENV, "TMPDIR": str(folder), "TERM": "xterm", "COLUMNS": "100"}
    ran = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=env, cwd=folder,
                           stdout=subprocess.PIPE, stderr=end, text=True)  # fmt: skip
    os.close(end)
    with ThreadPoolExecutor(1) as pool, ran.stdout:
        shown = pool.submit(everything, main)  # or the terminal is full, and the command waits
        try:
            assert ran.stdout.readline() == "now\n"
            begun = time.monotonic()
            if kill is not None:
                ran.send_signal(kill)
            return ran.wait(timeout=60), shown.result(), time.monotonic() - begun
        finally:
            ran.kill()


def everything(main):
    """What is written to the other end of a terminal or a pipe, until that is closed."""
    shown = b""
    with contextlib.suppress(OSError):  # what Linux says at the end of a terminal
        while part := os.read(main, 4096):
            shown += part
    os.close(main)
    return shown.decode()


def plain(shown):
    """The lines that stay on a terminal, or in a pipe, without what was cleared again."""
    kept = shown.replace("\r\n", "\n").rpartition("\x1b[2K")[2]
    return [line for line in re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", kept).split("\n") if line]


def left(folder):
    return {p.name for p in folder.iterdir()} - {".ses"}  # that is ONNX Runtime's own


RECOVER = ("--recover", "round,bias", "--scheme", "w4a8")
PLACES = [  # command, stage, options
    ("quantize", "prepare: passes", ()),
    ("quantize", "read data: verify", ()),
    ("quantize", "recover: rounding: weights", RECOVER),
    ("quantize", "write", ()),
    ("sensitivity", "sensitivity", ("--resume", "state.json")),
    ("search", "search", ("--min-sqnr", "20")),
]


@pytest.mark.parametrize(("command", "stage", "options"), PLACES)
def test_an_interrupt_in_any_stage_is_a_line(command, stage, options, classifier, images, folder):
    words = (stage, command, classifier, "--calib", images, *options)
    code, shown, took = ended(AT, words, folder)
    assert (code, plain(shown)) == (130, ["onnxq: interrupted; nothing was written"])
    assert took < SOON
    assert left(folder) == set()


def test_an_interrupt_leaves_no_bar_on_a_terminal(classifier, images, folder):
    words = ("calibrate", "quantize", classifier, "--calib", images, "--recover", "none")
    code, shown, took = ended(AT, words, folder, terminal=True)
    assert "calibrate" in shown
    assert (code, plain(shown)) == (130, ["onnxq: interrupted; nothing was written"])
    assert "\x1b[?25h" in shown.rpartition("\x1b[?25l")[2], "the cursor is shown again"
    assert took < SOON
    assert left(folder) == set()


def test_a_ranking_that_is_interrupted_says_what_it_goes_on_from(classifier, images, folder):
    words = ("confirm", "sensitivity", classifier, "--calib", images, "--resume", "state.json")
    code, shown, _ = ended(AT, words, folder)
    assert code == 130
    assert plain(shown) == ["onnxq: interrupted; the same command goes on from 'state.json'"]
    assert left(folder) == {"state.json"}


@pytest.mark.parametrize("how", ["waits", "is deaf"])
@pytest.mark.parametrize(("kill", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_threads_that_do_not_end_do_not_hold_a_command_up(how, kill, code, folder):
    returned, shown, took = ended(STUCK, [how], folder, kill=kill)
    said = ["onnxq: interrupted; nothing was written"] if kill == signal.SIGINT else []
    assert (returned, plain(shown)) == (code, said)
    assert took < SOON
    assert left(folder) == set()
