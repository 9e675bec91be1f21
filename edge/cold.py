"""Cold start: from the start of a process to its first answer, and the memory that this process took at most.

``python -m edge.cold`` is that process; it reads what to load from standard input.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge.candidates import Candidate, Tensors

LIMIT_SECONDS = 300
REFUSED = 3  # exit code: the last line of standard error is one sentence


class Crashed(EdgeError):
    """The runtime took its process down."""


def cold_start(candidate: Candidate, row: Tensors) -> tuple[float, int | None]:
    """Milliseconds, and bytes where the system tells them.

    Raises EdgeError when the process does not answer, Crashed when the runtime took it down, and not this one.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "row.npz"
        with inputs.open("wb") as file:
            np.savez(file, **row)  # type: ignore[arg-type]  # NumPy's stub takes them for its flag
        request = json.dumps({**asdict(candidate), "path": str(candidate.path), "inputs": str(inputs)})
        start = time.perf_counter()
        try:
            process = subprocess.run(
                [sys.executable, "-m", "edge.cold"],
                input=request,
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise EdgeError(f"a process of its own gave no answer within {LIMIT_SECONDS} s") from None
    last = (process.stderr.strip().splitlines() or ["no message"])[-1]
    if process.returncode == REFUSED:
        raise EdgeError(last)
    if process.returncode < 0:
        raise Crashed(
            f"{candidate.runtime} crashed on it ({signal.Signals(-process.returncode).name}); try another --runtime"
        )
    if process.returncode:
        raise EdgeError(f"a process of its own failed: {last}")
    answered = json.loads(process.stdout.splitlines()[-1])
    return (answered["clock"] - start) * 1e3, answered["peak_memory"]


def _answer_once() -> None:
    from edge.candidates import Candidate

    request = json.load(sys.stdin)
    with np.load(request.pop("inputs")) as file:
        row = dict(file)
    try:
        Candidate(**{**request, "path": Path(request["path"])}).open().predict(row)
    except EdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
    # perf_counter is the system's monotonic clock on Linux and macOS, so the parent may subtract its own.
    answered = time.perf_counter()
    from edge.device import peak_memory

    print(json.dumps({"clock": answered, "peak_memory": peak_memory()}), flush=True)


if __name__ == "__main__":
    _answer_once()
