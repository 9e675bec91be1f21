"""What this machine is, and in what condition: from /proc and /sys, where there are such files. No package needed."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any


def describe_device(name: str | None = None) -> dict[str, Any]:
    """The ``device`` of a benchmark's JSON. What the system does not tell is None."""
    model = _read(Path("/proc/device-tree/model")).strip("\0\n ") or None
    return {
        "name": name or re.sub(r" Rev [\d.]+$", "", model or "") or platform.node() or "device",
        "model": model,
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": _kilobytes("/proc/meminfo", "MemTotal"),
        "system": _system(),
        "python": platform.python_version(),
    }


def conditions() -> dict[str, Any]:
    """Now: degrees Celsius, MHz of the fastest core, the cores' governor, and a Raspberry Pi's throttling bits."""
    cores = Path("/sys/devices/system/cpu")
    governors = sorted({_read(file).strip() for file in cores.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""})
    return {
        "temperature_c": _temperature(),
        "clock_mhz": _clock(cores),
        "governor": ", ".join(governors) or None,
        "throttled": _throttled(),
    }


def peak_memory() -> int | None:
    """The most bytes of memory that this process ever held."""
    return _kilobytes("/proc/self/status", "VmHWM")


def current_memory() -> int | None:
    """The bytes of memory that this process holds now."""
    return _kilobytes("/proc/self/status", "VmRSS")


def _temperature() -> float | None:
    """Of the hottest zone; of the processor's where a zone says that it is that."""
    zones = {}
    for zone in Path("/sys/class/thermal").glob("thermal_zone*"):
        with contextlib.suppress(ValueError):
            zones[zone] = int(_read(zone / "temp")) / 1000  # millidegrees
    processor = [t for zone, t in zones.items() if any(word in _read(zone / "type") for word in ("cpu", "x86", "soc"))]
    return max(processor or zones.values(), default=None)


def _clock(cores: Path) -> float | None:
    kilohertz = [int(text) for file in cores.glob("cpu[0-9]*/cpufreq/scaling_cur_freq") if (text := _read(file))]
    if kilohertz:
        return max(kilohertz) / 1000
    told = [line.split(":")[1] for line in _read(Path("/proc/cpuinfo")).splitlines() if line.startswith("cpu MHz")]
    return max((float(value) for value in told), default=None)


def _throttled() -> str | None:
    """``vcgencmd get_throttled`` of a Raspberry Pi in words."""
    answer = _output("vcgencmd", "get_throttled").partition("throttled=")[2].strip()
    if not answer:
        return None
    bits = int(answer, 16)
    # raspberrypi.com/documentation: vcgencmd get_throttled
    now = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
    told = [f"{word} now" for bit, word in now.items() if bits >> bit & 1]
    told += [f"{word} since boot" for bit, word in now.items() if bits >> (bit + 16) & 1]
    return ", ".join(told) or "no"


def _cpu() -> str:
    """``lscpu`` knows the names of ARM's cores; /proc/cpuinfo has only those of other makers."""
    for line in (*_output("lscpu").splitlines(), *_read(Path("/proc/cpuinfo")).splitlines()):
        key, _, value = line.partition(":")
        if key.strip().lower() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    names = [line for line in _read(Path("/etc/os-release")).splitlines() if line.startswith("PRETTY_NAME=")]
    name = names[0].partition("=")[2].strip('"') if names else platform.system()
    return f"{name}, {platform.system()} {platform.release()}"


def _kilobytes(path: str, key: str) -> int | None:
    for line in _read(Path(path)).splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=5, env={**os.environ, "LC_ALL": "C"}
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
