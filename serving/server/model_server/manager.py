"""The servable manager: what lies on disk → what a policy aspires to → loaded, warmed, available, and in the end unloaded.

One thread looks, others load and unload; requests read a snapshot that is replaced whole, without a lock. A new version
is available before an old one goes, one that cannot be loaded replaces nothing, and one that goes is closed when the
last request has let go of it.
"""

from __future__ import annotations

import gc
import math
import queue
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from model_server.errors import Code, ConfigError, ServableError, ServingError, StartError, invalid
from model_server.model_config import Roots, VersionFolder, find_versions
from model_server.servable import Servable
from model_server.states import Available, State, VersionStatus
from model_server.warmup import warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from model_server.flags import Options
    from model_server.log_config import LogConfig
    from model_server.model_config import ModelConfig
    from model_server.monitoring import Monitor


class Manager:
    def __init__(
        self, models: list[ModelConfig], options: Options, *, log: Callable[[str], None] | None = None
    ) -> None:
        self._options = options
        self._log = log or (lambda line: print(line, file=sys.stderr, flush=True))
        self.roots = Roots(options.model_roots, options.request_log_root)
        # What requests read is replaced or set in one step; those who write hold the lock, and never while they touch a disk.
        self._lock = threading.Lock()
        self._models = {model.name: model for model in models}
        self._aspired: dict[str, set[int]] = {}
        self._status: dict[str, dict[int, VersionStatus]] = {model.name: {} for model in models}
        self._available = {model.name: Available(labels=dict(model.labels)) for model in models}
        self._stop = threading.Event()
        self.monitor: Monitor | None = None
        self._wake = threading.Event()  # look now
        self._loaders = ThreadPoolExecutor(max(options.num_load_threads, 1), thread_name_prefix="load")
        # What a servable leaves behind when the last request lets go of it; None when the first step of that is taken.
        # A SimpleQueue may be filled from a finalizer.
        self._released: queue.SimpleQueue[tuple[list[Callable[[], None]], VersionStatus, str] | None] = (
            queue.SimpleQueue()
        )
        for number in range(max(options.num_unload_threads, 1)):
            threading.Thread(target=self._close_released, name=f"unload-{number}", daemon=True).start()

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

    def log_config(self, name: str) -> LogConfig | None:
        model = self._models.get(name)
        return model.log if model is not None else None

    def engines(self, name: str) -> list[tuple[int, str]]:
        """The engine of each version that is available, highest first."""
        model = self._available.get(name) or Available()
        return [(version, servable.engine_name) for version, servable in sorted(model.versions.items(), reverse=True)]

    # ------------------------------------------------------------ configs

    @property
    def names(self) -> Collection[str]:
        return self._models.keys()

    def apply(self, models: list[ModelConfig]) -> set[str]:
        """Change to another config, whole or not at all; returns the names that are new. Raises ConfigError.

        Labels, and models that are left out, change at once for all requests; versions are looked for afterwards.
        """
        new = {model.name: model for model in models}
        with self._lock:
            if new == self._models:
                return set()
            self._check_labels(new, {name: available.labels for name, available in self._available.items()})
            for name, old in self._models.items():
                for status in self._status[name].values():
                    if name not in new:
                        self._let_go(status)
                    elif new[name].base_path != old.base_path and status.state is not State.AVAILABLE:
                        self._let_go(status)  # what is being loaded comes from the old place
            added = new.keys() - self._models.keys()
            self._models = new
            self._available = {
                name: Available(self._available[name].versions if name in self._available else {}, dict(model.labels))
                for name, model in new.items()
            }
            self._aspired = {name: aspired for name, aspired in self._aspired.items() if name in new}
            for name in added:
                self._status.setdefault(name, {})
        self._log(
            f"the config has changed: {len(new)} models" + (f", new: {', '.join(sorted(added))}" if added else "")
        )
        self._wake.set()
        return added

    def _check_labels(self, models: dict[str, ModelConfig], before: dict[str, dict[str, int]]) -> None:
        """A label may stay where it is or point to what is available; a new one elsewhere too, where a flag allows it."""
        for name, model in models.items():
            versions = self._available[name].versions if name in self._available else {}
            old = before.get(name, {})
            for label, version in model.labels.items():
                early = self._options.allow_version_labels_for_unavailable_models and label not in old
                if version not in versions and old.get(label) != version and not early:
                    raise ConfigError(
                        f"Request to assign label to version {version} of model {name}, which is not currently "
                        "available for inference",
                        remedy="publish that version, or set --allow_version_labels_for_unavailable_models=true",
                        code=Code.FAILED_PRECONDITION,
                    )

    def loaded(self, names: Collection[str]) -> bool:
        """Whether each of these models is available in its newest version, and every other version has been tried.

        Raises ServingError when that cannot become true any more.
        """
        failed = []
        for name in names:
            if name not in self._models:
                raise ServingError(Code.ABORTED, f"Model {name} was taken out by a later config")
        for name in names:
            versions = {version: self._status[name].get(version) for version in self._aspired.get(name, ())}
            if not versions or any(status is None or not status.tried for status in versions.values()):
                return False
            newest = max(versions)
            status = versions[newest]
            assert status is not None
            if status.state is State.END:
                failed.append(f"{{name: {name} version: {newest}}} due to error: {status.code.name}: {status.message}")
            elif status.state is not State.AVAILABLE:
                return False
        if failed:
            rows = "".join(f"{{{row}}}, " for row in failed)
            raise ServingError(Code.UNKNOWN, f"{len(failed)} servable(s) did not become available: {{{rows}}}")
        return True

    # ------------------------------------------------------------ the source

    def load_first(self) -> None:
        """Load until every model has what it aspires to. Raises StartError when a version cannot be loaded."""
        waiting: set[str] = set()
        while not self._stop.is_set():
            self.look()
            try:
                if self.loaded(self.names):
                    break
            except ServingError as error:
                message = " ".join(error.message.split())
                raise StartError(f"{message}; repair or remove that version and start again") from None
            for name in self.names - self._aspired.keys() - waiting:
                waiting.add(name)
                self._log(f"waiting for a version of {name} in {self._models[name].base_path}")
            self._pause(min(abs(self._options.file_system_poll_wait_seconds) or 1, 1))
        if self.stopping:
            return
        try:
            self._check_labels(self._models, {})
        except ConfigError as error:
            raise StartError(f"{error.message}; {error.remedy}") from None

    def watch(self) -> None:
        """Look for new versions in a thread, every --file_system_poll_wait_seconds and after a reload."""
        wait = self._options.file_system_poll_wait_seconds

        def run() -> None:
            while not self._stop.is_set():
                self._pause(wait if wait > 0 else None)
                try:
                    self.look()
                except Exception as error:  # the thread must outlive whatever a file system does
                    self._log(f"looking for new versions failed: {type(error).__name__}: {error}")

        threading.Thread(target=run, name="model-source", daemon=True).start()

    def _pause(self, seconds: float | None) -> None:
        """Wait until the next look, which is earlier where an attempt to load is due or somebody asks."""
        retries = [
            s.retry_at for versions in list(self._status.values()) for s in list(versions.values()) if s.retry_at
        ]
        if retries:
            due = max(min(retries) - time.monotonic(), 0.1)
            seconds = due if seconds is None else min(due, seconds)
        self._wake.wait(seconds)
        self._wake.clear()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def look(self) -> None:
        """One round: see what the disk has, load what is new, then unload what is no longer wanted."""
        for name, model in self._models.items():
            folders = find_versions(model.base_path)
            if folders is None:
                continue  # a base path that vanishes (a mount, a publisher's mistake) takes nothing away
            with self._lock:
                if self._models.get(name) is model:
                    self._aspire(model, folders)

    def _aspire(self, model: ModelConfig, folders: dict[int, VersionFolder]) -> None:
        aspired = model.aspired(folders)
        statuses = self._status[model.name]
        for version, status in list(statuses.items()):
            if version in aspired and status.gone:
                statuses[version] = VersionStatus()
            elif version not in aspired and status.state is not State.AVAILABLE:
                self._let_go(status)
            elif version not in aspired:
                status.retry_at = 0.0
        for version in aspired:
            status = statuses.setdefault(version, VersionStatus())
            if self._is_due(status, folders[version]):
                if status.state is State.END:  # another folder in the place of one that could not be loaded
                    status = statuses[version] = VersionStatus()
                status.queued, status.retry_at = True, 0.0
                if (status.path, status.identity) != folders[version]:
                    status.path, status.identity = folders[version]
                    status.attempts = 0
                self._loaders.submit(self._load, model.name, version, status)
        self._aspired[model.name] = set(aspired) | self._just_missed(model.name, folders)
        if not aspired and not self._aspired[model.name]:
            del self._aspired[model.name]
        self._unload(model.name)

    def _is_due(self, status: VersionStatus, folder: VersionFolder) -> bool:
        if status.queued:
            return False
        if status.state is State.AVAILABLE and status.path != folder.path:
            # Like TF Serving: another base path does not load anew what is loaded.
            status.path, status.identity = folder
            status.retry_at = 0.0
            return False
        if (status.path, status.identity) != folder:
            return True
        return (status.state < State.AVAILABLE or status.retry_at > 0) and time.monotonic() >= status.retry_at

    def _just_missed(self, name: str, folders: dict[int, VersionFolder]) -> set[int]:
        """Versions whose folder is not there for the first time: a publisher may be between two renames."""
        found = set()
        for version in self._available[name].versions:
            status = self._status[name][version]
            status.missed = 0 if version in folders else status.missed + 1
            if status.missed == 1:
                found.add(version)
        return found

    # ------------------------------------------------------------ loading and unloading

    def _load(self, name: str, version: int, status: VersionStatus) -> None:
        try:
            with self._lock:
                if status.gone or self._stop.is_set():
                    return
                if status.state is not State.AVAILABLE:
                    status.state = State.LOADING
            self._log(f"loading {name} version {version} from {status.path}")
            start = time.monotonic()
            if outside := self.roots.leaving(status.path):
                raise ServableError(
                    Code.INVALID_ARGUMENT, f"{outside} leads to {outside.resolve()}, outside of --model_roots"
                )
            servable = Servable(name, version, status.path, self._options)
            leaves = weakref.finalize(
                servable, self._released.put, (servable.closers, status, f"{name} version {version}")
            )
            leaves.atexit = False
            loaded = time.monotonic()
            iterations = self._options.num_request_iterations_for_warmup
            warmed = warm_up(servable, iterations) if self._options.enable_model_warmup else 0
        except ServingError as error:
            self._failed(name, version, status, error.code, error.message)
        except Exception as error:  # a file that is damaged in a way nobody thought of must not stop the server
            self._failed(name, version, status, Code.INTERNAL, f"{type(error).__name__}: {error}")
        else:
            if self.monitor is not None:
                warm_up_took = time.monotonic() - loaded if warmed else None
                self.monitor.loaded(status.path, loaded - start, warm_up_took)
            took = f"{time.monotonic() - start:.2f} s, {warmed} warm-up requests"
            self._loaded(name, version, status, servable, took)
        finally:
            status.queued = False
            self._wake.set()

    def _loaded(self, name: str, version: int, status: VersionStatus, servable: Servable, took: str) -> None:
        with self._lock:
            if status.gone:
                return  # the config or the folder changed meanwhile
            old = self._available[name]
            self._available[name] = Available({**old.versions, version: servable}, old.labels)
            status.code, status.message, status.state = Code.OK, "", State.AVAILABLE
            self._log(f"{name} version {version} is available on {servable.engine_name} ({took})")
            self._unload(name)

    def _failed(self, name: str, version: int, status: VersionStatus, code: Code, message: str) -> None:
        if self.monitor is not None:
            self.monitor.failed(status.path)
        with self._lock:
            if status.gone:
                return
            status.attempts += 1
            left = max(self._options.max_num_load_retries + 1 - status.attempts, 0)
            # Published anew under the same number? What serves goes on serving.
            serves = status.state is State.AVAILABLE
            if left:
                status.retry_at = time.monotonic() + self._options.load_retry_interval_micros / 1e6
            elif not serves:
                # The state last: requests read a status while it changes.
                status.code, status.message, status.state = code, message, State.END
            what = "was replaced on disk, but cannot" if serves else "cannot"
            self._log(f"{name} version {version} {what} be loaded ({left} attempts left): {message}")

    def _unload(self, name: str) -> None:
        """Let go of what is not aspired to, once something that is wanted is available or nothing is wanted."""
        old, aspired = self._available[name], self._aspired.get(name, set())
        kept = {version: servable for version, servable in old.versions.items() if version in aspired}
        if len(kept) == len(old.versions) or (aspired and not kept):
            return
        for version in old.versions.keys() - kept.keys():
            self._let_go(self._status[name][version])
        self._available[name] = Available(kept, old.labels)

    def _let_go(self, status: VersionStatus) -> None:
        if status.gone:
            return
        status.gone, status.retry_at = True, 0.0
        if status.state is State.AVAILABLE:
            status.state = State.UNLOADING
            self._released.put(None)
        else:
            status.state = max(status.state, State.END)

    def _close_released(self) -> None:
        patience, due = 1.0, math.inf  # seconds
        while True:
            if not self._is_unloading():
                patience, due = 1.0, math.inf
            elif due == math.inf:
                due = time.monotonic() + patience
            try:
                released = self._released.get(timeout=None if due == math.inf else max(due - time.monotonic(), 0.0))
            except queue.Empty:
                # A request may be running; or one failed, and its error's frames hold its servable in a circle.
                gc.collect()
                patience = min(2 * patience, 60.0)
                due = time.monotonic() + patience
                continue
            if released is not None:
                self._close(*released)
                del released

    def _is_unloading(self) -> bool:
        return any(s.state is State.UNLOADING for rows in list(self._status.values()) for s in list(rows.values()))

    def _close(self, closers: list[Callable[[], None]], status: VersionStatus, what: str) -> None:
        for close in closers:
            try:
                close()
            except Exception as error:
                self._log(f"{what}: {type(error).__name__} while it was unloaded: {error}")
        closers.clear()
        if status.state is State.UNLOADING:
            status.state = State.END
            self._log(f"{what} is unloaded")
