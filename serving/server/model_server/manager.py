"""The servable manager: what lies on disk → what a policy aspires to → loaded, warmed, available, and in the end unloaded.

One thread looks and loads; requests read a snapshot that is replaced whole, without a lock. A new version is available
before an old one goes, and one that cannot be loaded replaces nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from model_server.errors import Code, ServingError, StartError, invalid
from model_server.model_config import find_versions
from model_server.servable import Servable
from model_server.warmup import warm_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from model_server.flags import Options
    from model_server.model_config import ModelConfig


class State(IntEnum):
    """tensorflow.serving.ModelVersionStatus.State"""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class VersionStatus:
    state: State = State.START
    code: Code = Code.OK
    message: str = ""
    attempts: int = 0
    retry_at: float = 0.0  # time.monotonic() of the next attempt to load
    missed: int = 0  # looks in a row that did not find the folder
    gone: bool = False  # no longer aspired to; should it come back, it starts anew
    identity: tuple[int, int] = (0, 0)  # device and inode of the folder that was last tried


@dataclass(frozen=True)
class Available:
    """What requests see of one model."""

    versions: dict[int, Servable] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)

    @property
    def latest(self) -> int | None:
        return max(self.versions, default=None)


class Manager:
    def __init__(
        self, models: list[ModelConfig], options: Options, *, log: Callable[[str], None] | None = None
    ) -> None:
        self._models = {model.name: model for model in models}
        self._options = options
        self._log = log or (lambda line: print(line, file=sys.stderr, flush=True))
        self._status: dict[str, dict[int, VersionStatus]] = {model.name: {} for model in models}
        self._available = {model.name: Available(labels=dict(model.labels)) for model in models}
        self._stop = threading.Event()

    # ------------------------------------------------------------ what requests ask

    def find(self, name: str, version: int | None = None, label: str | None = None) -> Servable:
        """The servable for a request: a version, a label's version, or the latest. Raises ServingError NOT_FOUND."""
        model = self._available.get(name)
        if label:
            if model is None or label not in model.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            version = model.labels[label]
        if model is not None:
            wanted = version if version is not None else model.latest
            servable = model.versions.get(wanted) if wanted is not None else None
            if servable is not None:
                return servable
        which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {which}")

    def status(self, name: str, version: int | None = None) -> list[tuple[int, VersionStatus]]:
        """The versions of a model with their states, highest first. Raises ServingError NOT_FOUND."""
        versions = dict(self._status.get(name) or {})
        if not versions:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        if version is not None:
            if version not in versions:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
            return [(version, versions[version])]
        return sorted(versions.items(), reverse=True)

    # ------------------------------------------------------------ loading

    def load_first(self) -> None:
        """Load until every model has what it aspires to. Raises StartError when a version cannot be loaded."""
        waiting: set[str] = set()
        while not self._stop.is_set():
            self.reconcile()
            for name, versions in self._status.items():
                for version, status in versions.items():
                    if status.state is State.END and status.code is not Code.OK:
                        raise StartError(
                            f"model {name} version {version} cannot be loaded: {_one_line(status.message)}; "
                            "repair or remove that version and start again"
                        )
            unloaded = [name for name, available in self._available.items() if not available.versions]
            loading = any(s.state < State.AVAILABLE for v in self._status.values() for s in v.values())
            if not unloaded and not loading:
                self._check_labels()
                return
            for name in set(unloaded) - waiting:
                if not self._status[name]:
                    waiting.add(name)
                    self._log(f"waiting for a version of {name} in {self._models[name].base_path}")
            self._stop.wait(min(abs(self._options.file_system_poll_wait_seconds) or 1, 1))

    def _check_labels(self) -> None:
        if self._options.allow_version_labels_for_unavailable_models:
            return
        for name, model in self._models.items():
            for version in model.labels.values():
                if version not in self._available[name].versions:
                    raise StartError(
                        f"Request to assign label to version {version} of model {name}, which is not currently available "
                        "for inference; publish that version or set --allow_version_labels_for_unavailable_models=true"
                    )

    def watch(self) -> threading.Thread | None:
        """Look for new versions in a thread, every --file_system_poll_wait_seconds."""
        wait = self._options.file_system_poll_wait_seconds
        if wait <= 0:
            return None

        def run() -> None:
            while not self._stop.wait(wait):
                try:
                    self.reconcile()
                except Exception as error:  # the thread must outlive whatever a file system does
                    self._log(f"looking for new versions failed: {type(error).__name__}: {error}")

        thread = threading.Thread(target=run, name="model-source", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._stop.set()

    def reconcile(self) -> None:
        """One round: look, load what is new, then unload what is no longer wanted."""
        found = {name: find_versions(model.base_path) for name, model in self._models.items()}
        for name, folders in found.items():
            if not folders and not self._models[name].base_path.is_dir():
                continue  # a base path that vanishes (a mount, a publisher's mistake) takes nothing away
            aspired = self._models[name].aspired(folders)
            self._forget(name, aspired)
            for version in aspired:
                self._load(name, version, folders[version])
            self._unload(name, set(aspired) | self._just_missed(name, folders))

    def _just_missed(self, name: str, folders: dict[int, Path]) -> set[int]:
        """Versions whose folder is not there for the first time: a publisher may be between two renames."""
        found = set()
        for version in self._available[name].versions:
            status = self._status[name][version]
            status.missed = 0 if version in folders else status.missed + 1
            if status.missed == 1:
                found.add(version)
        return found

    def _forget(self, name: str, aspired: list[int]) -> None:
        for version, status in self._status[name].items():
            if version not in aspired and status.state is not State.AVAILABLE:
                status.state, status.gone = State.END, True
            elif version in aspired and status.gone:
                self._status[name] = {**self._status[name], version: VersionStatus()}

    def _load(self, name: str, version: int, folder: Path) -> None:
        status = self._status[name].get(version)
        if status is None:
            status = VersionStatus()
            self._status[name] = {**self._status[name], version: status}
        try:
            stat = folder.stat()
        except OSError:
            return  # it went between two looks
        again = status.identity not in ((0, 0), (stat.st_dev, stat.st_ino))
        if not again and (status.state >= State.AVAILABLE or time.monotonic() < status.retry_at):
            return
        status.identity = stat.st_dev, stat.st_ino
        if status.state is not State.AVAILABLE:
            status.state = State.LOADING
        start = time.monotonic()
        try:
            servable = Servable(name, version, folder, self._options)
            warmed = warm_up(servable) if self._options.enable_model_warmup else 0
        except ServingError as error:
            self._failed(name, version, status, error.code, error.message)
            return
        except Exception as error:  # a file that is damaged in a way nobody thought of must not stop the server
            self._failed(name, version, status, Code.INTERNAL, f"{type(error).__name__}: {error}")
            return
        old = self._available[name]
        self._available[name] = Available({**old.versions, version: servable}, old.labels)
        status.state, status.code, status.message = State.AVAILABLE, Code.OK, ""
        took = time.monotonic() - start
        self._log(f"{name} version {version} is available ({took:.2f} s, {warmed} warm-up requests)")

    def _failed(self, name: str, version: int, status: VersionStatus, code: Code, message: str) -> None:
        if status.state is State.AVAILABLE:  # published anew under the same number: what serves goes on serving
            self._log(f"{name} version {version} was replaced on disk, but cannot be loaded: {message}")
            return
        status.attempts += 1
        left = self._options.max_num_load_retries + 1 - status.attempts
        if left <= 0:
            # The state last: requests read a status while it changes.
            status.code, status.message, status.state = code, message, State.END
        else:
            status.retry_at = time.monotonic() + self._options.load_retry_interval_micros / 1e6
        self._log(f"{name} version {version} cannot be loaded ({max(left, 0)} attempts left): {message}")

    def _unload(self, name: str, aspired: set[int]) -> None:
        old = self._available[name]
        unwanted = old.versions.keys() - aspired
        kept = old.versions.keys() & aspired
        if not unwanted or (aspired and not kept):
            return  # an old version stays until one that is wanted is available
        self._available[name] = Available({v: s for v, s in old.versions.items() if v in kept}, old.labels)
        for version in sorted(unwanted):
            status = self._status[name][version]
            status.state, status.gone = State.END, True
            self._log(f"{name} version {version} is unloaded")


def _one_line(message: str) -> str:
    return " ".join(message.split()).rstrip(".")
