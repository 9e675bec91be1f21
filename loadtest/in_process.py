"""The yardstick: what one call of a SavedModel costs inside a TensorFlow process, with one thread.

    python -m loadtest.in_process MODEL…

Reads lines ``MODEL CALLS`` from stdin and answers each with the CPU microseconds of a call of ``serving_default`` with
one row, NumPy in and NumPy out (``tf.saved_model.load``): what a program pays that has the model at hand.
"""

from __future__ import annotations

import subprocess
import sys
import time

from export.bundle import find_exports
from loadtest.questions import SIGNATURE


class InProcess:
    """The process behind ``python -m loadtest.in_process``; a context manager."""

    def __init__(self, models: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.in_process", *models],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._line()

    def cpu_us(self, model: str, calls: int) -> float:
        print(model, calls, file=self._process.stdin)
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the in-process yardstick ended with exit code {self._process.wait()}")
        return line

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._process:  # closes its pipes and waits for it
            self._process.terminate()


def main() -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    calls = {}
    for export in {export.model: export for export in find_exports(models=sys.argv[1:])}.values():  # newest versions
        case = export.evidence.cases(SIGNATURE)[0]
        row = {name: values[:1] for name, values in case.inputs.items()}
        loaded = tf.saved_model.load(str(export.saved_model))
        calls[export.model] = loaded, loaded.signatures[SIGNATURE], row
    print("ready", flush=True)
    for line in sys.stdin:
        model, count = line.split()
        _, function, row = calls[model]
        for number in range(int(count) + 1):
            if number == 1:  # the first call finds cold caches
                start = time.process_time_ns()
            outputs = function(**{name: tf.constant(values) for name, values in row.items()})
            for value in outputs.values():
                value.numpy()
        print((time.process_time_ns() - start) / 1e3 / int(count), flush=True)


if __name__ == "__main__":
    main()
