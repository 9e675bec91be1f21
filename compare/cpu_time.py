"""CPU time of a process and all its children, from the kernel's scheduler, in nanoseconds' resolution."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def cpu_seconds(pid: int) -> float | None:
    """CPU seconds used so far by ``pid`` and its children, None when it is gone or not ours to see.

    Linux counts per thread in ``/proc/<pid>/task/*/schedstat`` (ns); elsewhere psutil's clock ticks (10 ms) must do.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return None
    total = 0.0
    for member in family:
        with contextlib.suppress(psutil.Error, OSError):
            total += _scheduled(member.pid) or sum(member.cpu_times()[:2])
    return total


def _scheduled(pid: int) -> float:
    nanoseconds = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        nanoseconds += int(file.read_text().split()[0])
    return nanoseconds / 1e9
