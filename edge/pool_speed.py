"""What a pool of interpreters brings and costs on this machine: ``python -m edge.pool_speed FILE [--interpreters 1 2 4]``.

As many callers as the largest pool has interpreters ask one model without a pause. The pools take turns within one run,
so that a busy second hurts all alike.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.device import current_memory
from edge.errors import EdgeError
from edge.interpreters import load_interpreter
from edge.runtime import LiteModel
from edge.sample_inputs import make_up_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.runtime import Tensors

ROUNDS = 7
COPIES = 16  # one interpreter is too small to be seen in a process's memory


def answers_per_second(model: LiteModel, row: Tensors, *, callers: int, seconds: float) -> float:
    counts = [0] * callers
    start = time.perf_counter()

    def ask(caller: int) -> None:
        while time.perf_counter() < start + seconds:
            model.predict(row)
            counts[caller] += 1

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def memory_of_one(path: Path) -> float | None:
    """Bytes of a further interpreter of the same file; None where the system does not show a process's memory."""
    content = path.read_bytes()
    kept = [load_interpreter(content)]
    before = current_memory()
    kept += [load_interpreter(content) for _ in range(COPIES)]
    after = current_memory()
    return None if before is None or after is None else (after - before) / COPIES


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m edge.pool_speed", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="a .tflite file with its json beside it")
    parser.add_argument("--interpreters", type=int, nargs="+", default=[1, 2], metavar="N", help="default 1 2")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each pool; default 2")
    options = parser.parse_args(argv)
    try:
        models = {size: LiteModel(options.file, interpreters=size) for size in options.interpreters}
        first = next(iter(models.values()))
        size = first.batch or 1
        row = {name: rows[:size] for name, rows in make_up_inputs(first.description)["made-up"].items()}
        rates: dict[int, list[float]] = {size: [] for size in models}
        for _ in range(ROUNDS):
            for size, model in models.items():
                seconds = options.seconds / ROUNDS
                rates[size].append(answers_per_second(model, row, callers=max(models), seconds=seconds))
        memory = memory_of_one(options.file)
    except EdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{first.name} {first.variant}, {first.runtime}, {max(models)} callers at once, median of {ROUNDS} rounds")
    print("interpreters  answers/s")
    for size, rate in rates.items():
        print(f"{size:12} {np.median(rate):10.0f}")
    if memory is not None:
        print(f"a further interpreter takes {memory / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
