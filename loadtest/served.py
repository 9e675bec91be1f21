"""A server under test: started by a command, measured from outside (ports, CPU time, memory)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from compare.cpu_time import cpu_seconds
from deploy.ports import free_ports
from models.errors import DeployError
from serving.local import stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_LIMIT_S = 180.0


class Served:
    """A running server on free ports of loopback; a context manager, entered when both ports are open.

    ``command`` takes tensorflow_model_server's flags. Raises DeployError with the server's last line when it ends early.
    """

    def __init__(self, command: Sequence[str], config: Path, *flags: str) -> None:
        self.grpc_port, self.rest_port = free_ports(2)
        self._command = [*command, f"--port={self.grpc_port}", f"--rest_api_port={self.rest_port}",
                         f"--model_config_file={config}", *flags]  # fmt: skip

    def __enter__(self) -> Served:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-serving-")
        self.log = Path(self._folder.name) / "server.log"
        self.started = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            )
        try:
            for port in (self.grpc_port, self.rest_port):
                self._wait_for(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        stop(self.process)
        self._folder.cleanup()

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                lines = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                raise DeployError(f"{self._command[0]} ended with exit code {self.process.returncode}: {lines[-1]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.002)
        raise DeployError(f"{self._command[0]} did not open port {port} within {START_LIMIT_S:g} s; see its own log")

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """The server and this process on cores of their own, where there are two: as if the client were elsewhere.

        Without it the scheduler wakes the server on the core of the client, which spins, and it waits for a time slice.
        """
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            self._move({*cores[:-1]})
            os.sched_setaffinity(0, {cores[-1]})
        try:
            yield
        finally:
            os.sched_setaffinity(0, cores)
            self._move(set(cores))

    def _move(self, cores: set[int]) -> None:
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children so far."""
        return cpu_seconds(self.process.pid) or 0.0

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children."""
        family = [psutil.Process(self.process.pid)]
        return sum(member.memory_info().rss for member in [*family, *family[0].children(recursive=True)])
