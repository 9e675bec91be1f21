"""Where a recorded figure comes from."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime

from models.artifacts import REPOSITORY


def provenance() -> dict[str, str]:
    """Commit, date and machine, as they stand in a file of recorded figures."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True)
    return {
        "commit": done.stdout.strip() or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {processor()}, Python {platform.python_version()}",
    }


def processor() -> str:
    """The processor's name, as Linux tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
