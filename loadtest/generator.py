"""The load generator: Locust's master and workers, started once as processes, used for many plans.

    with Generator(workers=2) as generator:
        outcome = generator.run(Plan(target="serving-rest", model="mlp", loop="open", stages=(Stage(seconds=3, rate=200),)))

Locust patches its process for gevent, so nothing of it is imported here.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.own_services import end_group
from loadtest.outcome import Outcome
from loadtest.plan import Plan, Stage
from models.artifacts import REPOSITORY
from models.errors import DeployError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Generator", "Outcome", "Plan", "Stage"]


class Generator:
    """A context manager, entered when Locust's ``workers`` processes are there. Raises DeployError when they do not start."""

    def __init__(self, *, workers: int = 1) -> None:
        if workers < 1:
            raise DeployError(f"{workers} workers send nothing; use 1 or more")
        self._workers = workers

    def __enter__(self) -> Generator:
        self._folder = tempfile.TemporaryDirectory(prefix="load-")
        self._log = Path(self._folder.name) / "locust.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loadtest.master", str(self._workers)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                cwd=REPOSITORY,
                start_new_session=True,  # Ctrl-C is for this process, which then ends that one
            )
        try:
            self._hear()
        except BaseException:
            self.__exit__()
            raise
        return self

    @property
    def pid(self) -> int:
        """Of Locust's master, whose children the workers are."""
        return self._process.pid

    def run(self, plan: Plan, *, during: Callable[[], None] | None = None) -> Outcome:
        """Put the plan's load on its target; ``during`` runs in a thread of this process while the load is on.

        Raises TargetError when the plan cannot be run, DeployError when one of the generator's processes ends or is stuck. What the server
        does wrong is in the outcome.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; why is heard next
            print(json.dumps(plan.to_json()), file=self._process.stdin)
        started = self._hear()["started"]
        if during is None:
            parts = self._hear()["parts"]
        else:
            with ThreadPoolExecutor(1) as thread:
                running = thread.submit(during)
                parts = self._hear()["parts"]
                running.result()
        return Outcome.of(plan, parts, started=started)

    def _hear(self) -> dict[str, Any]:
        """The next line of Locust's master."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise DeployError(f"the load generator ended with exit code {self._process.wait()}: {said[-1]}")
        heard = json.loads(line)
        if "ended" in heard:
            raise DeployError(heard["ended"])
        if "error" in heard:
            raise TargetError(heard["error"])
        return heard

    def __exit__(self, *exception: object) -> None:
        with self._folder:
            end_group(self._process)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):  # a plan that nobody read
                        pipe.close()
