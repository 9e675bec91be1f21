"""Asks one file of the bundle for all recorded rows: ``edge bench``, in the emulator and on this machine.

The same code, the same files, the same rows and the same version of the runtime; only the processor differs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.arm.debian import CannotEmulate
from deploy.environments import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from compare.arm.machine import ArmMachine

SECONDS = 0.001  # of steady calls: an emulator's times are of no use, so only as many as there must be
PATIENCE = 1800  # seconds for one file

# The environment on this machine that has the runtime, below edge/.
_NATIVE = {"ai-edge-litert": "", "tflite-runtime": "tflite-runtime"}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What ``edge bench`` wrote, or why it wrote nothing."""

    report: dict[str, Any] | None
    error: str | None
    seconds: float


def ask_emulated(machine: ArmMachine, model: str, variant: str, *, versions: str) -> Told:
    name = ["--name", f"emulated-{machine.kind.arch}", "--emulated", machine.label]
    return _ask(machine.command(), machine, machine.environment(), model, variant, versions, name)


def ask_native(machine: ArmMachine, model: str, variant: str, *, versions: str) -> Told:
    """With the same runtime on this machine. Raises CannotEmulate when it is not installed: there is nothing to compare."""
    folder = REPOSITORY / "edge" / _NATIVE[machine.kind.runtime]
    python = folder / ".venv" / "bin" / "python"
    if not python.exists():
        reason = (folder / ".skipped").read_text().strip() if (folder / ".skipped").exists() else "run `make setup`"
        raise CannotEmulate(f"{machine.kind.runtime} is not installed on this machine: {reason}")
    environment = {**os.environ, "PYTHONPATH": str(machine.bundle), "PYTHONDONTWRITEBYTECODE": "1"}
    return _ask([str(python)], machine, environment, model, variant, versions, ["--name", "this machine"])


def _ask(
    command: Sequence[str],
    machine: ArmMachine,
    environment: Mapping[str, str],
    model: str,
    variant: str,
    versions: str,
    more: Sequence[str],
) -> Told:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "bench.json"
        command = [*command, "-m", "edge", "bench", "--models", "models", "--inputs", "inputs", "--json", str(written)]
        command += ["--names", model, "--variants", variant, "--versions", versions, "--runtime", machine.kind.runtime]
        command += ["--seconds", str(SECONDS), *more]
        done = run_in_group(command, folder=machine.bundle, environment=environment, patience=PATIENCE)
        seconds = time.monotonic() - start
        if written.exists():
            return Told(report=json.loads(written.read_text()), error=None, seconds=seconds)
        return Told(report=None, error=_reason(done), seconds=seconds)


def run_in_group(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], patience: float
) -> subprocess.CompletedProcess[str]:
    """Run to the end; whatever it started ends with it, also when this process is stopped."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=patience)
    except BaseException as stopped:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if not isinstance(stopped, subprocess.TimeoutExpired):
            raise
        err += f"\nstopped after {patience:.0f} s"
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    said = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0 or done.returncode > 128:  # qemu ends by the signal of what it ran
        number = -done.returncode if done.returncode < 0 else done.returncode - 128
        return f"crashed with signal {number}{f': {said[-1].strip()}' if said else ''}"
    return said[-1].removeprefix("error: ").strip() if said else f"ended with exit code {done.returncode}"
