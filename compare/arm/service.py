"""The edge service in the emulator, asked over HTTP: the bundle's own code, behind its own WSGI server, with a token."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from compare.arm.judging import read_answers
from deploy.ports import free_ports
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from compare.arm.machine import ArmMachine
    from edge.runtime import Tensors

ROWS = 16  # of each kind in one request
_START = 300  # seconds until it must answer: it starts two Pythons in the emulator
_STOP = 60


@contextlib.contextmanager
def emulated_service(machine: ArmMachine, variant: str) -> Iterator[httpx.Client]:
    """``edge serve`` on a free port of the loopback, healthy; stopped at the end. Raises TargetError with its last line."""
    port, token = free_ports(1)[0], secrets.token_urlsafe(16)
    command = machine.command("-m", "edge", "serve", "--port", str(port), "--models", "models", "--variant", variant)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=machine.bundle,
                env={**machine.environment(), "EDGE_TOKEN": token},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=300, trust_env=False
            ) as client:
                _wait(process, client, log)
                yield client
        finally:
            _stop(process)


def trouble_over_http(
    client: httpx.Client, model: str, version: int, inputs: Mapping[str, Tensors], answers: Mapping[str, Any]
) -> str | None:
    """None when the first rows of each kind get, bit for bit, the ``answers`` that ``edge bench`` got there too."""
    for kind, expected in read_answers(answers).items():
        body = {"inputs": {name: rows[:ROWS].tolist() for name, rows in inputs[kind].items()}}
        try:
            answer = client.post(f"/v1/models/{model}/versions/{version}:predict", json=body)
            told = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return f"no answer ({error or type(error).__name__})"
        if answer.status_code != 200:
            return f"HTTP {answer.status_code}: {told.get('error')}"
        outputs = told["outputs"] if isinstance(told["outputs"], dict) else dict.fromkeys(expected, told["outputs"])
        for name, rows in expected.items():
            # JSON has as many digits as tell one float32 from the next.
            if np.asarray(outputs[name], rows.dtype).tobytes() != rows[:ROWS].tobytes():
                return f"{name} of the {kind} rows has other bits over HTTP"
    return None


def _wait(process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if client.get("/healthz", timeout=30).json()["status"] == "ok":
                return
        except (httpx.HTTPError, ValueError):
            pass
        time.sleep(0.1)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["it said nothing"]
    state = "ended" if process.poll() is not None else f"does not answer within {_START} s"
    raise TargetError(f"the emulated service {state}: {said[-1]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As systemd does: SIGTERM, and SIGKILL to all that is left."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
