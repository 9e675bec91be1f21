"""Build the line: ``python -m deploy.build GOAL``. Steps that do not need each other run side by side.

A step is a command of some room; what it needs first stands in ``STEPS``, once. Every line that a step prints begins
with the step's name. Its times, and the CPU time of all its processes, go to ``deploy/timed.py``'s table. Standard
library only: the first step makes the environment that the others run in.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from deploy.environments import NODE_MODULES, PROGRAMS, load_environments
from deploy.timed import Spent, record
from models.artifacts import REPOSITORY
from models.errors import interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PYTHON = str(REPOSITORY / ".venv" / "bin" / "python")
ENVIRONMENTS = (sys.executable, "-m", "deploy.environments")
SHIPPED = [e.name for e in load_environments() if e.name != "." and not e.on_demand]  # of the rooms that ship alone


@dataclass(frozen=True)
class Step:
    """``after``: the steps that must be over; ``label``: its name in the table of times, where two share a row."""

    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    label: str = ""


STEPS = {
    "set-up": Step((*ENVIRONMENTS, ".")),
    "packages": Step((*ENVIRONMENTS, *SHIPPED), after=("set-up",), label="set-up"),
    "node": Step((*ENVIRONMENTS, NODE_MODULES), after=("set-up",), label="set-up"),
    "programs": Step((*ENVIRONMENTS, PROGRAMS), after=("set-up",), label="set-up"),
    "page": Step((PYTHON, "-m", "deploy.page"), after=("node",)),
    "train": Step((PYTHON, "-m", "models.train"), after=("set-up",)),
    "export": Step((PYTHON, "-m", "export"), after=("train",)),
    "lite": Step((PYTHON, "-m", "lite", "--variants", "deployed"), after=("export",), label="convert"),
    "web": Step((PYTHON, "-m", "web.convert"), after=("export", "packages"), label="convert"),
    "publish": Step((PYTHON, "-m", "serving.publish"), after=("lite", "packages")),
}
# What can be asked for, and the last steps that it stands for.
GOALS = {
    "setup": ("packages", "node", "programs"),
    "train": ("train",),
    "export": ("export",),
    "convert": ("lite", "web"),
    "publish": ("publish", "web"),
    "page": ("page",),
    "build": ("publish", "web", "page", "programs"),
}
TOLD = (2, 130)  # exit codes of a command that has said its reason in one sentence
WIDTH = max(map(len, STEPS))
GRACE_S = 30  # for a step to end after it was interrupted: it finishes what it is writing


def needed(last: Iterable[str], steps: Mapping[str, Step] = STEPS) -> list[str]:
    """``last`` and all that must come before, in an order in which they could run one by one."""
    found: list[str] = []
    for name in last:
        found += [n for n in (*needed(steps[name].after, steps), name) if n not in found]
    return list(dict.fromkeys(found))


class Build:
    """Runs steps side by side. When one fails, those that run beside it are stopped as Ctrl-C stops them."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = steps
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, names: Sequence[str]) -> int:
        """The exit code of the step that failed, or 0."""
        waiting, over, running = list(names), set[str](), dict[Future[int], str]()
        with ThreadPoolExecutor(len(names)) as pool:
            try:
                while waiting or running:
                    for name in [n for n in waiting if {*self._steps[n].after} & {*names} <= over]:
                        waiting.remove(name)
                        running[pool.submit(self._run, name)] = name
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        name = running.pop(done)
                        if code := done.result():
                            self._stop()
                            if code not in TOLD:
                                print(f"error: the step {name} {_ending(code)}", file=sys.stderr)
                            return code if code > 0 else 128 - code
                        over.add(name)
            except BaseException:
                self._stop()
                raise
        return 0

    def _run(self, name: str) -> int:
        step, start = self._steps[name], time.time()
        with self._lock:
            if self._stopped:
                return 0
            process = subprocess.Popen(
                step.command,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                process_group=0,  # Ctrl-C reaches the step once: through _stop
            )
            self._running[name] = process
        assert process.stderr
        assert process.stdout
        errors = threading.Thread(target=self._pass_on, args=(name, process.stderr, sys.stderr))
        errors.start()
        self._pass_on(name, process.stdout, sys.stdout)
        errors.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with self._lock:
            del self._running[name]
        record(step.label or name, Spent(start, time.time(), usage.ru_utime + usage.ru_stime))
        return process.returncode

    def _pass_on(self, name: str, source: IO[str], target: IO[str]) -> None:
        """Each line with the step's name before it; an error that is meant for the user stands alone, as elsewhere.

        What a step says while it is being stopped has no news for anybody.
        """
        with source:
            for line in source:
                if not self._stopped:
                    text = line if line.startswith("error:") else f"{name:<{WIDTH}} | {line}"
                    target.write(text if text.endswith("\n") else text + "\n")
                    target.flush()

    def _stop(self) -> None:
        """Interrupt what runs, as Ctrl-C does, and wait for it."""
        with self._lock:
            self._stopped = True
            for process in self._running.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
            patient = threading.Timer(GRACE_S, self._kill)
        patient.daemon = True
        patient.start()

    def _kill(self) -> None:
        with self._lock:
            for process in self._running.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.build", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("goal", choices=GOALS)
    goal = parser.parse_args(argv).goal
    return Build(STEPS).run(needed(GOALS[goal]))


if __name__ == "__main__":
    interruptible()
    run_cli(main)
