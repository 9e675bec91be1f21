"""A deployment of one's own, to be published to, rolled back and killed: the model server under its supervisor.

Everything lies in a temporary folder: a copy of one model's newest export, a repository, logs, the supervisor's files. The
user's deployment and artefacts are neither stopped nor written.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import stack
from deploy.health import trouble
from deploy.ports import free_ports
from deploy.services import load_services
from deploy.supervision import Supervisor
from export.bundle import Export, find_exports
from models.errors import DeployError, ModelError
from serving import rollout
from serving.client.errors import ClientError
from serving.client.rest import RestClient
from serving.publish import publish_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE = "serving"
LIMIT_S = 60.0  # for a version to become available, and for a killed server to answer again
LOOK_S = 0.02


@contextlib.contextmanager
def private_deployment(model: str) -> Iterator[PrivateDeployment]:
    """The model server with the newest version of ``model``, healthy; stopped and removed when the block ends.

    Meanwhile ARTIFACTS and the ports are set in this process's environment. Raises ModelError, DeployError, ArtifactError.
    """
    exports = find_exports(models=[model])
    if not exports:
        raise ModelError(f"there is no export of {model} to serve; run `make deploy-all` to train and export it")
    before = dict(os.environ)
    grpc_port, rest_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        os.environ |= {"ARTIFACTS": folder, "GRPC_PORT": str(grpc_port), "REST_PORT": str(rest_port)}
        try:
            deployment = PrivateDeployment(Path(folder).resolve(), exports[-1])
            try:
                deployment.start()
                yield deployment
            finally:
                with contextlib.redirect_stdout(io.StringIO()):
                    stack.down()
        finally:
            os.environ.clear()
            os.environ.update(before)


class PrivateDeployment:
    """``version`` is the newest one. Every version is the same model, so that an answer is right whoever gives it."""

    def __init__(self, root: Path, export: Export) -> None:
        self.root, self.model, self.version = root, export.model, export.version
        self._export = export
        (self._service,) = (service for service in load_services() if service.name == SERVICE)
        self.addresses = {
            "serving-rest": f"127.0.0.1:{self._service.ports['REST_PORT']}",
            "serving-grpc": f"127.0.0.1:{self._service.ports['GRPC_PORT']}",
        }
        self._server = rollout.Server(self.addresses["serving-grpc"], root / "repository")

    def start(self) -> None:
        """Publish and bring up. Raises DeployError with the server's own reason above it, ArtifactError."""
        self._add_export()
        publish_all(self.root)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                stack.up([self._service])
        except DeployError:
            print(said.getvalue(), end="", flush=True)  # the log's last lines; the log itself goes with the folder
            raise

    def publish(self) -> int:
        """One more version into the repository, by the project's own publishing; the server finds it by itself."""
        self.version += 1
        self._add_export()
        publish_all(self.root)
        return self.version

    def wait_available(self) -> None:
        """Until the newest version answers. Raises DeployError."""
        with RestClient(self.addresses["serving-rest"], timeout=5) as client:

            def available() -> bool:
                try:
                    states = {row["version"]: row["state"] for row in client.status(self.model)}
                except ClientError:
                    return False
                return states.get(self.version) == "AVAILABLE"

            _wait(available, f"version {self.version} of {self.model} is not available")

    def promote(self) -> rollout.Move:
        """The label stable moves to the newest version."""
        return rollout.promote(self.root, self.model, self._server)

    def rollback(self) -> rollout.Move:
        return rollout.rollback(self.root, self.model, self._server)

    def kill(self) -> None:
        """SIGKILL to the server, which is one process. Its supervisor starts it again."""
        supervisor = Supervisor.connect()
        if supervisor is None:
            raise DeployError("the supervisor of the private deployment is gone; run it again")
        os.kill(supervisor.states()[SERVICE]["pid"], signal.SIGKILL)

    def wait_healthy(self) -> None:
        """Until the server answers for its model. Raises DeployError."""
        _wait(lambda: not trouble(self._service), "the killed server does not answer again")

    def _add_export(self) -> None:
        """The export as ``version``; its json comes last, an export is there when that is."""
        source, name = self._export, str(self.version)
        for kind in ("savedmodels", "lite"):
            folder = source.root / kind / self.model / str(source.version)
            if folder.is_dir():
                shutil.copytree(folder, self.root / kind / self.model / name)
        (self.root / "evidence" / self.model).mkdir(parents=True, exist_ok=True)
        for suffix in (".npz", ".proof.json", ".json"):
            file = source.evidence_json.with_suffix(suffix)
            if file.is_file():
                shutil.copy(file, self.root / "evidence" / self.model / f"{name}{suffix}")


def _wait(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not done():
        if time.monotonic() > deadline:
            raise DeployError(f"{what} after {LIMIT_S:g} s; is the machine very busy? Run it again")
        time.sleep(LOOK_S)
