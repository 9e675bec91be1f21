"""A model server of one's own on free ports, for a comparison or a test: the light one, or the one with TensorFlow.

``engine`` is "litert" (``serving/server/.venv``: what lies as model.tflite beside the SavedModel) or "tensorflow"
(``serving/server/.venv-tensorflow``: any SavedModel, string tensors too; made by ``make serving/server/.venv-tensorflow``).
"auto" takes TensorFlow only when a model has no model.tflite.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.ports import reserved_ports
from models.errors import DeployError
from serving.client.errors import ClientError
from serving.client.rest import RestClient
from serving.launch import choose_engine, command

if TYPE_CHECKING:
    from collections.abc import Iterator

START_LIMIT_S = 120.0  # TensorFlow's import alone takes up to 20 s on a busy machine


@dataclass(frozen=True)
class LocalServer:
    """A running server: its addresses (host:port), engine, and process."""

    grpc_address: str
    rest_address: str
    grpc_port: int
    rest_port: int
    engine: str
    process: subprocess.Popen
    log: Path

    def environment(self) -> dict[str, str]:
        """The variables under which the targets find this server instead of the deployed one."""
        return {"GRPC_PORT": str(self.grpc_port), "REST_PORT": str(self.rest_port)}


def start(
    config: Path, *, grpc_port: int, rest_port: int, engine: str, log: Path, flags: tuple[str, ...] = ()
) -> subprocess.Popen:
    """Start a server on given ports; it may not answer yet."""
    arguments = [f"--port={grpc_port}", f"--rest_api_port={rest_port}", f"--model_config_file={config}", *flags]
    with log.open("wb") as output:
        return subprocess.Popen(
            [command(engine), "--max_num_load_retries=0", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )


@contextlib.contextmanager
def local_server(
    repository_config: Path, engine: str = "auto", *, flags: tuple[str, ...] = ()
) -> Iterator[LocalServer]:
    """Serve a model_config_file on free ports until the block ends; entered when the models are loaded.

    Raises DeployError with the server's own last line when it does not start.
    """
    chosen = choose_engine(repository_config) if engine == "auto" else engine
    with tempfile.TemporaryDirectory(prefix="model-server-") as folder, contextlib.ExitStack() as until_open:
        grpc_port, rest_port = until_open.enter_context(reserved_ports(2))
        log = Path(folder) / "server.log"
        process = start(
            repository_config, grpc_port=grpc_port, rest_port=rest_port, engine=chosen, log=log, flags=flags
        )
        try:
            wait_until_open(process, grpc_port, log)
            until_open.close()
            yield LocalServer(
                f"127.0.0.1:{grpc_port}", f"127.0.0.1:{rest_port}", grpc_port, rest_port, chosen, process, log
            )
        finally:
            stop(process)


def wait_until_open(process: subprocess.Popen, port: int, log: Path, limit: float = START_LIMIT_S) -> None:
    """Wait for a port, which opens when every model is loaded (gRPC's last). Raises DeployError."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            reason = lines[-1].removeprefix("error: ") if lines else f"exit code {process.returncode}"
            raise DeployError(f"the model server did not start: {reason}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.005)
    raise DeployError(f"the model server was not ready within {limit:g} s; look at the load of the machine")


def stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(rest_address: str, model: str) -> bool:
    """Whether a server answers there and has an available version of ``model``."""
    try:
        with RestClient(rest_address, timeout=5) as client:
            return any(row["state"] == "AVAILABLE" for row in client.status(model))
    except ClientError:
        return False
