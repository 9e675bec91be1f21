"""``serving-rest`` and ``serving-grpc``: whichever server answers at REST_PORT and GRPC_PORT."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil

from compare.target import Session, Target
from deploy.ports import free_ports, port
from models.errors import DeployError, TargetError
from serving.client.errors import ClientError, Unreachable
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.launch import choose_engine
from serving.local import start, stop, wait_until_open
from serving.models_config import config_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.bundle import Export

    Tensors = dict[str, NDArray]
    Client = RestClient | GrpcClient

FIRST_ANSWER_LIMIT_S = 120.0
PROBE_S = 2.0


class ServingSession(Session):
    """One model and version over one protocol. The connection is its own, so that ``first_ms`` holds it."""

    def __init__(self, client: Client, export: Export, signature: str) -> None:
        self._client, self._export, self._signature = client, export, signature

    def predict(self, inputs: Tensors) -> Tensors:
        try:
            return self._client.predict(
                self._export.model, inputs, version=self._export.version, signature=self._signature
            )
        except ClientError as error:
            raise TargetError(str(error)) from None

    def facts(self) -> dict[str, object]:
        """The engine from the server's own header, where it sends one; process facts when it runs on this machine."""
        described = self._describe()
        tflite = self._export.published / "model.tflite"
        artifact = tflite if described.get("engine") == "litert" else self._export.saved_model / "saved_model.pb"
        process = server_process(port("GRPC_PORT"))
        memory, threads = None, None
        if process is not None:
            with contextlib.suppress(psutil.Error):
                memory, threads = process.memory_info().rss, process.num_threads()
        return {
            "artifact_bytes": artifact.stat().st_size if artifact.is_file() else None,
            "artifact_sha256": self._export.sha256,
            "rss_bytes": memory,
            "runtime_version": described.get("runtime") or "a server that does not name itself",
            "engine": described.get("engine"),
            "threads": threads,
            "accelerator": None,
            "pid": process.pid if process is not None else None,
        }

    def _describe(self) -> dict[str, str]:
        """``x-model-server: model-server/0.1.0; engine=litert; runtime=ai-edge-litert 2.3.0`` → its fields."""
        try:
            with RestClient(f"127.0.0.1:{port('REST_PORT')}", timeout=PROBE_S) as client:
                header = client.headers(self._export.model, version=self._export.version).get("x-model-server", "")
        except ClientError:
            return {}
        return dict(re.findall(r"(\w+)=([^;]+)", header))

    def close(self) -> None:
        self._client.close()


class ServingTarget(Target):
    """``protocol``: "rest" or "grpc"."""

    isolation = "shared"
    _clients: ClassVar[dict[str, tuple[type[Any], str]]] = {
        "rest": (RestClient, "REST_PORT"),
        "grpc": (GrpcClient, "GRPC_PORT"),
    }

    def __init__(self, protocol: str) -> None:
        self.name = f"serving-{protocol}"
        self._protocol = protocol
        self._client, self._port_name = self._clients[protocol]

    def _address(self) -> str:
        return f"127.0.0.1:{port(self._port_name)}"

    def unavailable(self) -> str | None:
        """Any answer will do, NOT_FOUND included: the server is there."""
        address = self._address()
        with self._client(address, timeout=PROBE_S) as client:
            try:
                client.status("any")
            except Unreachable:
                return f"no server answers at {address}; run `make deploy-all` to start it"
            except ClientError as error:
                if error.code in ("DEADLINE_EXCEEDED", "UNKNOWN", "UNIMPLEMENTED"):
                    return (
                        f"what answers at {address} is no model server ({error}); run `make status` to see what it is"
                    )
        return None

    def unsupported(self, export: Export, signature: str) -> str | None:
        if signature not in export.description["signatures"]:
            return f"{export.model} has no signature {signature!r}"
        return None

    def open(self, export: Export, signature: str = "serving_default") -> Session:
        client = self._client(self._address())
        try:
            row = client.status(export.model, version=export.version)[0]
        except ClientError as error:
            client.close()
            raise TargetError(
                f"the server at {self._address()} does not serve {export.model} version {export.version} "
                f"({error.message}); run `make deploy-all` to publish it"
            ) from None
        if row["state"] != "AVAILABLE":
            client.close()
            reason = row["error_message"] or "it is still loading"
            raise TargetError(f"{export.model} version {export.version} is {row['state']}: {reason}; see `make status`")
        return ServingSession(client, export, signature)

    def cold_start(self, export: Export, inputs: Tensors) -> float | None:
        """A second server on free ports, for this one version alone: process start → first answer over this protocol."""
        if not export.published.is_dir():
            raise TargetError(f"{export.published} is not published; run `make deploy-all` to publish it")
        with tempfile.TemporaryDirectory(prefix="cold-") as folder:
            base = Path(folder) / export.model
            base.mkdir()
            (base / str(export.version)).symlink_to(export.published)
            config = Path(folder) / "models.config"
            config.write_text(config_text({export.model: [export.version]}, Path(folder)))
            grpc_port, rest_port = free_ports(2)
            address = f"127.0.0.1:{grpc_port if self._protocol == 'grpc' else rest_port}"
            started = time.perf_counter()
            try:
                process = start(
                    config,
                    grpc_port=grpc_port,
                    rest_port=rest_port,
                    engine=choose_engine(config),
                    log=Path(folder) / "server.log",
                )
            except DeployError as error:
                raise TargetError(str(error)) from None
            try:
                return self._first_answer(process, address, export, inputs, Path(folder) / "server.log") - started
            finally:
                stop(process)

    def _first_answer(self, process: Any, address: str, export: Export, inputs: Tensors, log: Path) -> float:
        """time.perf_counter() of the first answer."""
        try:
            wait_until_open(process, int(address.rsplit(":", 1)[1]), log, FIRST_ANSWER_LIMIT_S)
            with self._client(address, timeout=FIRST_ANSWER_LIMIT_S) as client:
                client.predict(export.model, inputs, version=export.version)
                return time.perf_counter()
        except (DeployError, ClientError) as error:
            raise TargetError(f"no cold start: {error}") from None


def server_process(number: int) -> psutil.Process | None:
    """The process that listens on a port of this machine, None when it is not ours to see (a container)."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == number:
                return psutil.Process(connection.pid)
    return None


TARGETS = [ServingTarget("rest"), ServingTarget("grpc")]
