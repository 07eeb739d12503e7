"""Run a command and write its wall and CPU seconds, peak resident memory and exit code as JSON.

    python watch.py REPORT.json COMMAND...

A process of its own because Linux hands a child the peak of the process that starts it: measured
from a large process, a small one would look large.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in one unit of ru_maxrss


def watch(command: list[str]) -> dict[str, float]:
    """Wall and CPU seconds, peak RSS in MB and exit code of a command, its children included."""
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    return {
        "wall_s": time.perf_counter() - start,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * RSS_UNIT / 1e6,
        "exit": os.waitstatus_to_exitcode(status),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(watch(sys.argv[2:])), "utf-8")
