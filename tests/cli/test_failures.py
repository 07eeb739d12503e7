"""What goes wrong outside the input: a full disk, Ctrl-C, packages and rights that are missing."""

import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from onnxq_cli.main import run

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")])}
ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (getattr(signal, "SIGHUP", 1), 129)]
posix = pytest.mark.skipif(os.name != "posix", reason="uses limits and signals of POSIX")


def command(*args, **options):
    return subprocess.run([sys.executable, "-m", "onnxq_cli", *map(str, args)], env=ENV, text=True,
                          capture_output=True, timeout=60, **options)  # fmt: skip


def one_line(ran):
    assert ran.stdout == ""
    line = ran.stderr.strip()  # Ctrl-C comes with an empty line, after the terminal's ^C
    assert len(line.splitlines()) == 1, ran.stderr
    return line


def test_the_command_itself_says_one_line_and_exits_with_2():
    ran = command("quantize", "none.onnx", "--calib", "none.npy")
    assert one_line(ran) == "onnxq: no model at 'none.onnx'; check the path"
    assert ran.returncode == 2


@posix
@pytest.mark.parametrize("external", [[], ["--external-data"]])
def test_a_full_disk_leaves_nothing(classifier, images, folder, external):
    def limit():  # a write past it fails as on a full disk, with EFBIG for ENOSPC
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    ran = command("quantize", classifier, "--calib", images, "-o", "q.onnx", "--save-plan",
                  "plan.yaml", *external, preexec_fn=limit)  # fmt: skip
    assert ran.returncode == 2
    assert "cannot" in one_line(ran)
    assert list(folder.iterdir()) == []


def test_a_full_device_is_named_as_such(classifier, monkeypatch, onnxq, folder):
    # what the operating system raises, from NumPy's or our own write alike
    def full(*_):
        raise OSError(28, "No space left on device", "plan.yaml")

    monkeypatch.setattr(Path, "write_text", full)
    ran = onnxq("plan", classifier, "-o", "plan.yaml")
    assert ran.code == 2
    assert "the disk is full 'plan.yaml'; free some space" in ran.err
    assert list(folder.iterdir()) == []


FEEDS = """
import os, signal, threading
import numpy as np

def feeds():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    x = np.random.default_rng(0).random((500, 1, 16, 16), np.float32)
    for i in range(20):
        yield {"image": np.roll(x, i, 0)}
    threading.Timer(0.3, os.kill, (os.getpid(), SIGNAL)).start()
"""


@posix
@pytest.mark.parametrize(("kill", "code"), ENDS)
def test_an_interrupt_leaves_nothing(classifier, folder, monkeypatch, kill, code):
    # 10,000 images take far longer than the time after which the signal comes
    Path("slow.py").write_text(FEEDS.replace("SIGNAL", str(int(kill))))
    monkeypatch.setitem(ENV, "TMPDIR", str(folder))
    ran = command("quantize", classifier, "--calib", "slow:feeds", "-o", "q.onnx", "--workers", 1)
    assert (ran.returncode, ran.stdout) == (code, "")
    if kill == signal.SIGINT:
        assert one_line(ran) == "onnxq: interrupted; nothing was written"
    assert "Traceback" not in ran.stderr
    left = {p.name for p in folder.iterdir()}
    assert left <= {"slow.py", "__pycache__", ".ses"}  # the last is ONNX Runtime's own


@pytest.fixture
def without_onnxruntime(folder, monkeypatch):
    (folder / "sitecustomize.py").write_text(
        "import sys\nsys.modules['onnxruntime'] = None\n"  # an import of it raises ImportError
    )
    monkeypatch.setitem(ENV, "PYTHONPATH", os.pathsep.join([str(folder), ENV["PYTHONPATH"]]))


@pytest.mark.usefixtures("without_onnxruntime")
def test_without_onnxruntime_the_extra_is_named(classifier, images):
    ran = command("quantize", classifier, "--calib", images, "-o", "q.onnx")
    assert ran.returncode == 2
    assert 'pip install "onnxq[cpu]" or "onnxq[gpu]"' in one_line(ran)


@pytest.mark.usefixtures("without_onnxruntime")
def test_without_onnxruntime_a_model_is_prepared_and_planned(classifier, images):
    assert command("prepare", classifier, "-o", "prepared.onnx").returncode == 0
    assert command("plan", classifier, "-o", "plan.yaml").returncode == 0
    assert command("quantize", classifier, "--calib", images, "--dry-run").returncode == 0
    assert 'pip install "onnxq[cpu]"' in " ".join(command("doctor").stdout.split())


@posix
def test_a_read_only_folder_is_told_before_the_work(classifier, images, folder):
    def drop_override():  # root writes anywhere unless it gives that right up
        prctl, drop = ctypes.CDLL(None).prctl, 24
        prctl(drop, 1, 0, 0, 0)
        prctl(drop, 2, 0, 0, 0)

    (folder / "out").mkdir(mode=0o555)
    try:
        ran = command("quantize", classifier, "--calib", images, "-o", "out/q.onnx",
                      preexec_fn=drop_override if sys.platform == "linux" else None)  # fmt: skip
    finally:
        (folder / "out").chmod(0o755)
    if ran.returncode == 0:
        pytest.skip("this user writes to read-only folders")
    assert ran.returncode == 2
    assert "the folder 'out' is read-only" in one_line(ran)


def test_a_closed_pipe_is_no_error(classifier):
    ran = subprocess.run(
        f"{sys.executable} -m onnxq_cli quantize {classifier} --calib none --dry-run | head -1",
        shell=True, env=ENV, text=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("kind: onnxq.plan\n", "")


def test_a_command_leaves_logging_as_it_was():
    log = logging.getLogger("onnxq")
    before = (log.level, log.handlers[:])
    assert run(["-v", "doctor"]) == 0
    assert (log.level, log.handlers) == before


CUT_SHORT = """
import os, sys, tempfile, threading
import numpy as np
from onnxq.model.mapped import map_file
from onnxq_cli.signals import handle_signals
from pathlib import Path

handle_signals()
folder = tempfile.TemporaryDirectory(dir=".")
path = Path("w.bin")
path.write_bytes(bytes(1 << 20))
values = map_file(path)
os.truncate(path, 4096)
read = threading.Thread(target=values.sum) if sys.argv[1] == "thread" else None
read.start() if read else values.sum()
read and read.join()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="what POSIX sends")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_mapped_file_that_is_cut_short_under_a_reader_is_a_line(folder, where):
    ran = subprocess.run([sys.executable, "-c", CUT_SHORT, where], env=ENV, text=True,
                         capture_output=True, timeout=60, check=False)  # fmt: skip
    said = f"onnxq: '{folder / 'w.bin'}' changed during the run; start again\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", said)
    assert [p.name for p in folder.iterdir()] == ["w.bin"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="what POSIX sends")
def test_a_command_under_nohup_goes_on_when_the_terminal_is_closed():
    code = "import os, signal; from onnxq_cli.signals import handle_signals; handle_signals(); "
    ran = subprocess.run(
        [sys.executable, "-c", code + "os.kill(os.getpid(), signal.SIGHUP)"], env=ENV, timeout=60,
        check=False, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert ran.returncode == 0
