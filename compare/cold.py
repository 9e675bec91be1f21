"""Cold start: from nothing to the first answer, in a process of its own, and the cache of what was measured.

``python -m compare.cold <module> <target> <root> <model> <version> <signature> <inputs.npz>`` is that process.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.npz import read_tensors, write_tensors
from export.bundle import Export
from models.artifacts import REPOSITORY, artifacts_root, read_json, write_json
from models.errors import ArtifactError, TargetError, run_cli

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]

LIMIT_SECONDS = 120


def in_new_process(name: str, export: Export, inputs: Tensors, signature: str = "serving_default") -> float:
    """Seconds from the start of a Python process to the first answer of target ``name``.

    Raises TargetError with the process's last line when it fails, or when it takes over two minutes.
    """
    from compare.target import find_target

    module = type(find_target(name)).__module__
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        write_tensors(path, inputs)
        command = [sys.executable, "-m", "compare.cold", module, name, export.root, export.model, export.version]
        start = time.perf_counter()
        try:
            process = subprocess.run(
                [*map(str, command), signature, str(path)],
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise TargetError(
                f"{name} gave no first answer within {LIMIT_SECONDS} s; look at the machine's load"
            ) from None
        # The process ends right after its answer; its exit costs a few ms, which belongs to no runtime.
        answered = [line for line in process.stdout.splitlines() if line.startswith("answered ")]
        if process.returncode or not answered:
            last = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise TargetError(f"{name} failed in a process of its own: {last}")
        return float(answered[-1].split()[1]) - start


def _answer_once(arguments: list[str]) -> None:
    module, name, root, model, version, signature, inputs = arguments
    tensors = read_tensors(Path(inputs))
    (target,) = (t for t in importlib.import_module(module).TARGETS if t.name == name)
    with target, target.open(Export(Path(root), model, int(version)), signature) as session:
        session.predict(tensors)
        # perf_counter is the system's monotonic clock on Linux and macOS, so the parent may subtract its own.
        print(f"answered {time.perf_counter()}", flush=True)


class ColdCache:
    """``artifacts/cold.json``: milliseconds by target, artefact and environment. A cold start costs up to 15 s."""

    def __init__(self, environment: Any, path: Path | None = None) -> None:
        self.path = path or artifacts_root() / "cold.json"
        self._environment = environment
        try:
            self._milliseconds: dict[str, float] = read_json(self.path)
        except ArtifactError:
            self._milliseconds = {}

    def get(self, target: str, artefact: str) -> float | None:
        return self._milliseconds.get(key_of(target, artefact, self._environment))

    def put(self, target: str, artefact: str, milliseconds: float) -> None:
        self._milliseconds[key_of(target, artefact, self._environment)] = milliseconds
        write_json(self.path, self._milliseconds)


def key_of(target: str, artefact: str, environment: Any) -> str:
    text = json.dumps([artefact, environment], sort_keys=True)
    return f"{target}/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def fixed_batch(export: Export) -> int | None:
    """The number of rows that a user's model insists on, None when it takes any."""
    sizes = {tensor.shape[0] for tensor in export.spec.inputs if tensor.shape}
    return next((size for size in sizes if size is not None), None)


def one_row(export: Export, signature: str = "serving_default", row: int = 0) -> Tensors:
    """One request: a row of the first case of the evidence; a model with a fixed batch gets as many rows as it takes."""
    case = export.evidence.cases(signature)[0]
    count = fixed_batch(export) or 1
    start = (row * count) % max(1, case.rows - count + 1)
    return {name: np.asarray(values[start : start + count]) for name, values in case.inputs.items()}


if __name__ == "__main__":
    run_cli(lambda: _answer_once(sys.argv[1:]))
