"""What all tests share: the built artefacts, free ports, and processes that never outlive a test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from export.bundle import Export, find_exports
from models.artifacts import REPOSITORY
from tests.order import file_of, group_of, place_of
from tests.reporting import Durations

# Whatever the tests ask over HTTP is on loopback, and never behind a proxy.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1", "localhost")))

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from export.running import Runner


# A shell has its background jobs ignore Ctrl-C, and so would every process that a test starts to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the process that hears of every test
        config.pluginmanager.register(Durations())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place_of(group_of(file_of(item.nodeid))))


@pytest.hookimpl(optionalhook=True)  # without xdist nobody calls it
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A group is run by one process, whole, and the groups in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(file_of(nodeid))

    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def exports() -> dict[tuple[str, int], Export]:
    """The exports that `make build` made, by (model, version)."""
    found = {(e.model, e.version): e for e in find_exports()}
    assert found, "no exports: run `make build` first"
    return found


def copy_published(exports: Iterable[Export], root: Path) -> None:
    """What is published of ``exports`` and their evidence, below ``root``, for a test with labels of its own."""
    for export in exports:
        shutil.copytree(export.published, root / "repository" / export.model / str(export.version))
        evidence = root / "evidence" / export.model
        evidence.mkdir(parents=True, exist_ok=True)
        for path in (export.evidence_json, export.evidence_json.with_suffix(".npz")):
            shutil.copy(path, evidence)


@pytest.fixture(scope="session")
def runner() -> Callable[[Export, str], Runner]:
    """``runner(export, signature)``: a signature of its SavedModel on TensorFlow, each model loaded once."""
    from export.running import LoadedModel

    load = cache(lambda export: LoadedModel(export.saved_model))
    return lambda export, signature: load(export).signature(signature)


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended; one that nobody has collected yet counts as ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(family: Iterable[psutil.Process]) -> None:
    """Until all of them have ended, which takes a moment on a busy machine."""
    deadline = time.monotonic() + 60
    while left := [process for process in family if not is_gone(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def pick_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def free_port() -> Callable[[], int]:
    return pick_free_port


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a process; it is terminated when the test ends."""
    started: list[subprocess.Popen] = []

    def start(*command: str | Path, **options) -> subprocess.Popen:
        process = subprocess.Popen([str(c) for c in command], **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
