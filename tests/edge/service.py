"""Starting and stopping a real edge service."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from edge.__main__ import main
from models.artifacts import REPOSITORY
from tests.commands import run_command
from tests.conftest import pick_free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMAND = REPOSITORY / "edge" / ".venv" / "bin" / "edge"


@dataclass
class Service:
    process: subprocess.Popen
    port: int
    client: httpx.Client


@contextlib.contextmanager
def start_service(
    models: Path, *options: str, port: int | None = None, environment: dict[str, str] | None = None
) -> Iterator[Service]:
    """``edge serve``, healthy; run outside the repository, so that only what is installed is found."""
    port = port or pick_free_port()
    command = [COMMAND, "serve", "--port", str(port), "--models", models, *options]
    process = subprocess.Popen(
        [str(c) for c in command],
        cwd=models.parent,
        env={**os.environ, **(environment or {})},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_healthy(process, client)
            yield Service(process, port, client)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def wait_until_healthy(process: subprocess.Popen, client: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            client.get("/healthz").raise_for_status()
            return
        time.sleep(0.02)
    raise AssertionError(f"the service did not become healthy: {process.poll()}")


def run_edge(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(COMMAND), *map(str, arguments)], capture_output=True, text=True, timeout=120)


def call_edge(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in the tests' own process and environment: for what is refused at once."""
    return run_command(main, *arguments)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.02)
