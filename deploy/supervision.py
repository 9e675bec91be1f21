"""supervisord for the services: its configuration, its start, and the questions and orders that go to it.

Everything it needs stands in ``artifacts/run``, everything it and the services say in ``artifacts/logs``. The
fingerprint of what a service runs is part of its program section, so supervisord itself sees what has changed.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import xmlrpc.client
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.xmlrpc import SupervisorTransport

from deploy.environments import REPOSITORY
from deploy.ownership import marked_environment
from models.artifacts import artifacts_root, write_whole
from models.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy.services import Service

SOCKET_BYTES = 100  # sun_path holds 108, and supervisord binds to a longer temporary name first
LOG_BYTES = "10MB"  # a log of a service, three of which are kept


def run_folder() -> Path:
    return artifacts_root() / "run"


def logs_folder() -> Path:
    return artifacts_root() / "logs"


def log_of(service: Service) -> Path:
    return logs_folder() / f"{service.name}.log"


def config_path() -> Path:
    return run_folder() / "supervisord.conf"


def socket_path() -> Path:
    """The supervisor's unix socket: in artifacts/run, or in a folder of this user where that path is too long."""
    path = run_folder() / "supervisor.sock"
    if len(os.fsencode(path)) + len(".12345678") <= SOCKET_BYTES:
        return path
    short = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"export-once-{os.getuid()}" / f"{short}.sock"


def write_config(services: Sequence[Service], fingerprints: Mapping[str, str]) -> None:
    """Write supervisord.conf. Raises ArtifactError when the folder cannot be written, DeployError for its name."""
    if bad := [sign for sign in "%;#" if sign in f"{artifacts_root()}{REPOSITORY}"]:
        raise DeployError(
            f"{artifacts_root()} has {bad[0]} in its name, which supervisord's configuration cannot hold; "
            "set ARTIFACTS=/another/folder, or move the repository"
        )
    sections: dict[str, dict[str, object]] = {
        "supervisord": {
            "logfile": logs_folder() / "supervisord.log",
            "logfile_maxbytes": "1MB",
            "logfile_backups": 2,
            "pidfile": run_folder() / "supervisord.pid",
            "directory": REPOSITORY,
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        "unix_http_server": {"file": socket_path(), "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    }
    for service in services:
        program, *arguments = service.command
        command = [str(service.root / program) if "/" in program else program, *arguments]
        sections[f"program:{service.name}"] = {
            "command": shlex.join(command),
            "directory": service.root,
            "environment": f'EXPORT_ONCE_FINGERPRINT="{fingerprints[service.name]}"',
            "autorestart": "true",
            "startsecs": 5,  # a service that ends sooner has failed to start, and is not tried for ever
            "startretries": 3,
            "stopwaitsecs": 10,
            "stopasgroup": "true",  # Envoy and browsers are children of the service
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": log_of(service),
            "stdout_logfile_maxbytes": LOG_BYTES,
            "stdout_logfile_backups": 3,
        }
    parser = configparser.RawConfigParser()
    parser.read_dict({name: {key: str(value) for key, value in keys.items()} for name, keys in sections.items()})
    with write_whole(config_path()) as temporary, temporary.open("w") as file:
        file.write("; Made by `python -m deploy up` from deploy/services.toml.\n")
        parser.write(file)


def written_fingerprints() -> dict[str, str]:
    """The fingerprint of each service in the configuration that supervisord runs on."""
    parser = configparser.RawConfigParser()
    parser.read(config_path())
    found = {}
    for section in parser.sections():
        kind, _, name = section.partition(":")
        if kind == "program":
            found[name] = parser[section].get("environment", "").partition('"')[2].rstrip('"')
    return found


class _Transport(SupervisorTransport):
    """Closes its connection after each question, so that whoever deploys in its own process is left with none."""

    def request(self, *arguments: Any, **named: Any) -> Any:
        try:
            return super().request(*arguments, **named)
        finally:
            self.close()


class Supervisor:
    """A running supervisord. ``connect`` gives None where none answers."""

    def __init__(self) -> None:
        transport = _Transport(None, None, serverurl=f"unix://{socket_path()}")
        self._proxy: Any = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)

    @classmethod
    def connect(cls) -> Supervisor | None:
        supervisor = cls()
        try:
            supervisor.pid()
        except (OSError, xmlrpc.client.Error):
            return None
        return supervisor

    @classmethod
    def start(cls) -> Supervisor:
        """Start supervisord on the written configuration; it returns when its socket answers. Raises DeployError."""
        socket_path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket_path().unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config_path())]
        done = subprocess.run(
            command,
            env=marked_environment(),
            cwd=REPOSITORY,
            start_new_session=True,  # Ctrl-C at a terminal is for `make`, not for the services
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        supervisor = cls.connect()
        if done.returncode or supervisor is None:
            lines = done.stdout.strip().splitlines() or ["no message"]
            raise DeployError(f"supervisord did not start: {lines[-1]}; see {logs_folder() / 'supervisord.log'}")
        return supervisor

    def pid(self) -> int:
        return self._proxy.supervisor.getPID()

    def states(self) -> dict[str, dict[str, Any]]:
        """For each service supervisor's getProcessInfo: statename, pid, start, now, spawnerr, … Raises DeployError."""
        try:
            return {info["name"]: info for info in self._proxy.supervisor.getAllProcessInfo()}
        except (OSError, xmlrpc.client.Error) as error:
            raise DeployError(
                f"supervisord no longer answers ({error}); was it stopped meanwhile? Run `make deploy-all` again"
            ) from error

    def apply(self) -> list[str]:
        """Take over the written configuration: stop what changed or went, start what changed or came. Returns those names."""
        added, changed, removed = self._proxy.supervisor.reloadConfig()[0]
        for name in [*changed, *removed]:
            self._proxy.supervisor.stopProcessGroup(name, True)
            self._proxy.supervisor.removeProcessGroup(name)
        for name in [*changed, *added]:
            self._proxy.supervisor.addProcessGroup(name)
        return [*changed, *added]

    def start_stopped(self) -> None:
        """Start what is not running: given up after too many failures, or stopped by hand."""
        for name, info in self.states().items():
            if info["statename"] in ("FATAL", "STOPPED", "EXITED"):
                with contextlib.suppress(xmlrpc.client.Fault):  # started meanwhile, or its state will say why not
                    self._proxy.supervisor.startProcess(name, False)

    def shutdown(self) -> None:
        """Order the end; supervisord stops its services and then itself, which takes up to their stopwaitsecs."""
        self._proxy.supervisor.shutdown()
