"""Peak memory of one interpreter's process. ``python -m compare.quantization.memory [FILE]`` is that process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from models.artifacts import REPOSITORY
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_S = 60


def peak_bytes(file: Path | None, *, repeats: int = 3) -> int:
    """Most resident memory of a fresh process that loads the runtime, and ``file``, and answers one row: the median.

    Without ``file`` it is what Python, NumPy and the runtime take; the difference is the file's own: its weights, its
    arena, what XNNPACK packs, and the pages of the runtime's code that it touches.
    Raises TargetError when the process dies.
    """
    return int(median(_one_peak(file) for _ in range(repeats)))


def _one_peak(file: Path | None) -> int:
    command = [sys.executable, "-m", "compare.quantization.memory", *([str(file)] if file else [])]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise TargetError(f"no answer within {LIMIT_S} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise TargetError(said[-1] if said else f"the process ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str]) -> None:
    import ai_edge_litert.interpreter  # noqa: F401  # without a file too
    import numpy as np

    from edge.runtime import LiteModel

    if arguments:
        model = LiteModel(Path(arguments[0]))
        model.predict({t.name: np.zeros([size or 1 for size in t.shape], t.raw_dtype) for t in model.inputs})
    print(json.dumps(_peak()))


def _peak() -> int:
    """Linux tells a process's own peak; getrusage's includes that of the process which it was forked from."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024  # kB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
