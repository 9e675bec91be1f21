"""The page's server on a free port, for a test or a measurement."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import httpx

from deploy.ports import free_ports
from models.artifacts import REPOSITORY
from models.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = REPOSITORY / "web" / ".venv" / "bin" / "python"
START_LIMIT_S = 60  # on a busy machine; it starts within a second on an idle one


def command(*options: object) -> list[str]:
    return [str(PYTHON), "-m", "web.app", *map(str, options)]


@contextlib.contextmanager
def running_app(**options: object) -> Iterator[str]:
    """``web.app``, healthy; yields its address. Options are the command line's. Raises DeployError."""
    (port,) = free_ports(1)
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    process = subprocess.Popen(
        command("--port", port, *arguments), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{address}/healthz").raise_for_status()
                break
            time.sleep(0.02)
        else:
            process.kill()
            raise DeployError(f"the page's server did not become healthy: {process.communicate()[0]}")
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=20)
