"""`python -m lite` on another artefact root, and what it wrote about a file."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING
from unittest import mock

from lite.__main__ import main
from lite.process import Worker
from tests.commands import run_command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from export.bundle import Export


class KeptWorkers:
    """Stands in for ``Worker`` in a build: the real ones, but the end of a build ends none.

    The next build finds TensorFlow loaded, which takes five seconds. A worker that crashes is started again, as always.
    """

    def __init__(self) -> None:
        self._idle: list[Worker] = []

    @contextlib.contextmanager
    def __call__(self, *, new: bool = False) -> Iterator[Worker]:
        worker = Worker() if new or not self._idle else self._idle.pop()
        try:
            yield worker
        finally:
            self._idle.append(worker)

    def close(self) -> None:
        for worker in self._idle:
            worker.__exit__()


def run_lite(
    root: Path, *arguments: str, workers: Callable[[], object] = Worker, models: str = ""
) -> subprocess.CompletedProcess[str]:
    """``python -m lite`` on another artefact root, its conversions one after another by one of ``workers``."""
    with mock.patch.multiple("lite.build", Worker=workers, WORKERS=1):
        return run_command(main, *arguments, ARTIFACTS=str(root), MODELS=models)


def description(export: Export, variant: str) -> dict:
    return json.loads(export.lite(variant).with_suffix(".json").read_text())
