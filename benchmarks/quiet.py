"""Is the machine ours? Another process slows plain inference, which spreads each run over all cores
and waits for the slowest, more than it slows a quantizer with a sample a core: the ratio flatters.

Read from /proc/stat; where there is none, nobody else is assumed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
IDLE, PATIENCE = 0.05, 120.0  # share of the processors' time; seconds


class Meter:
    """Counts the share of the processors' time that other processes took since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), _busy(), _ours()

    def others(self) -> float:
        """The share, 0 to 1; processes of ours count once they have ended."""
        started, busy, ours = self._start
        elapsed = (time.perf_counter() - started) * (os.cpu_count() or 1)
        return max(0.0, (_busy() - busy) - (_ours() - ours)) / elapsed


def wait_for_quiet(patience: float = PATIENCE) -> None:
    """Return when others leave the processors alone for a second, or after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        meter = Meter()
        time.sleep(1.0)
        if meter.others() <= IDLE:
            return


def _busy() -> float:
    """Seconds all processors have worked: user, nice, system, interrupts."""
    if not STAT.is_file():
        return 0.0
    ticks = [int(n) for n in STAT.read_text("ascii").splitlines()[0].split()[1:8]]
    return (sum(ticks[:3]) + sum(ticks[5:7])) / os.sysconf("SC_CLK_TCK")


def _ours() -> float:
    """Seconds this process and its ended children have worked."""
    return sum(os.times()[:4])
