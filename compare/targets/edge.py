"""``edge-http``: the device's service, asked over HTTP on a kept-alive connection."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil

from compare.target import Session, Target
from compare.targets.lite import unsupported_file
from compare.targets.serving import server_process
from deploy.ports import port
from models.artifacts import REPOSITORY, artifacts_root
from models.errors import TargetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.bundle import Export

    Tensors = dict[str, NDArray]

VARIANT = "int8"  # what the service runs by default
COMMAND = REPOSITORY / "edge" / ".venv" / "bin" / "edge"
START_LIMIT_S = 60
ANSWER_LIMIT_S = 30
BODY_BYTES = 12 << 20
NUMBER_BYTES = 26  # the longest float32 as JSON text, comma included


class EdgeSession(Session):
    """``service``: the address. Raises TargetError when it serves another file than this export's."""

    def __init__(self, export: Export, service: str) -> None:
        self._path = f"/v1/models/{export.model}/versions/{export.version}:predict"
        # Plain HTTP on loopback: reading certificates (20 ms) and proxies would only lengthen the first answer.
        self._client = httpx.Client(base_url=service, timeout=ANSWER_LIMIT_S, verify=False, trust_env=False)
        try:
            self._health = self._ask("GET", "/healthz")
            self._file = self._served(export)
        except BaseException:
            self._client.close()
            raise
        self._dtypes = {tensor["name"]: tensor["dtype"] for tensor in self._file["outputs"]}

    def predict(self, inputs: Tensors) -> Tensors:
        """A long batch goes in pieces, each below the service's limit of 16 MiB."""
        step = self._rows_per_request(inputs)
        rows = len(next(iter(inputs.values())))
        parts = [
            self._predict({name: values[start : start + step] for name, values in inputs.items()})
            for start in range(0, rows, step)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._dtypes}

    def _rows_per_request(self, inputs: Tensors) -> int:
        numbers = sum(values[:1].size for values in inputs.values())
        batch = next((t["shape"][0] for t in self._file["inputs"] if t["shape"] and t["shape"][0]), 1)
        return max(1, BODY_BYTES // (NUMBER_BYTES * max(1, numbers) * batch)) * batch

    def _predict(self, inputs: Tensors) -> Tensors:
        body = json.dumps({"inputs": {name: values.tolist() for name, values in inputs.items()}})
        outputs = self._ask("POST", self._path, body)["outputs"]
        if len(self._dtypes) == 1:  # a single output stands without its name
            outputs = {next(iter(self._dtypes)): outputs}
        return {name: np.asarray(outputs[name], dtype) for name, dtype in self._dtypes.items()}

    def facts(self) -> dict[str, object]:
        process = self._process
        return {
            "artifact_bytes": self._file["bytes"],
            "artifact_sha256": self._file["sha256"],
            "rss_bytes": process.memory_info().rss if process else None,
            "runtime_version": self._health["runtime"],
            "threads": self._health["threads"],
            "accelerator": "XNNPACK",
            "pid": process.pid if process else None,
        }

    @cached_property
    def _process(self) -> psutil.Process | None:
        """The service's worker; None where it runs in a container, whose process numbers mean nothing here."""
        listener = server_process(self._client.base_url.port or 0)
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._health["pid"])
            if listener and listener.pid in (process.pid, process.ppid()):
                return process
        return None

    def close(self) -> None:
        self._client.close()

    def _served(self, export: Export) -> dict[str, Any]:
        """The service's entry for this model and version."""
        label = f"{export.model} version {export.version}"
        for model in self._ask("GET", "/v1/models")["models"]:
            for version in model["versions"]:
                if (model["name"], version["version"]) != (export.model, export.version):
                    continue
                if version["error"]:
                    raise TargetError(f"the edge service cannot serve {label}: {version['error']}")
                made = export.lite(model["variant"]).with_suffix(".json")
                if made.is_file() and json.loads(made.read_text())["sha256"] != version["sha256"]:
                    raise TargetError(f"the edge service still serves an older file of {label}; run `make deploy-all`")
                return version
        raise TargetError(f"the edge service does not serve {label}; run `make deploy-all`")

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        try:
            response = self._client.request(method, path, content=body)
            answer = response.json()
        except httpx.HTTPError as error:
            raise TargetError(
                f"the edge service does not answer ({error or type(error).__name__}); see `make status`"
            ) from error
        except ValueError as error:
            raise TargetError(
                f"what answers {method} {path} is no edge service (no JSON); see `make status`"
            ) from error
        if response.is_error:
            raise TargetError(f"the edge service refused the request ({response.status_code}): {answer.get('error')}")
        return answer


class Edge(Target):
    name = "edge-http"
    variant = VARIANT
    precision = "int8"
    batch = "static"
    isolation = "shared"

    def unavailable(self) -> str | None:
        address = _address(port("EDGE_PORT"))
        try:
            if httpx.get(f"{address}/healthz", timeout=ANSWER_LIMIT_S, trust_env=False).json().get("status") == "ok":
                return None
        except (httpx.HTTPError, ValueError, AttributeError):
            pass
        return f"no edge service answers at {address}; start it with `make deploy-all`"

    def unsupported(self, export: Export, signature: str) -> str | None:
        if export.root != artifacts_root():
            return "the edge service serves the models of artifacts/; lite-int8 runs the same file with the same code"
        return unsupported_file(export, VARIANT, signature)

    def open(self, export: Export, signature: str = "serving_default") -> Session:
        return EdgeSession(export, _address(port("EDGE_PORT")))

    def cold_start(self, export: Export, inputs: Tensors) -> float | None:
        """Seconds from the start of a second instance's process to its first answer."""
        if not COMMAND.is_file():
            raise TargetError(f"{COMMAND.relative_to(REPOSITORY)} is missing; run `make deploy-all` to set it up")
        number = _free_port()
        models = export.lite(VARIANT).parents[2]
        command = [str(COMMAND), "serve", "--port", str(number), "--models", str(models), "--variant", VARIANT]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until_open(number, process)
            with EdgeSession(export, _address(number)) as session:
                session.predict(inputs)
            return time.perf_counter() - start
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(number: int) -> str:
    return f"http://127.0.0.1:{number}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_open(number: int, process: subprocess.Popen) -> None:
    """Until the port accepts connections: they wait in its queue for the worker to be ready."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", number), timeout=1).close()
            return
        except OSError:
            time.sleep(0.005)
    raise TargetError(f"a second edge service did not start on port {number}; try `edge/.venv/bin/edge serve` by hand")


TARGETS = [Edge()]
