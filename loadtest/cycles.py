"""Publish a next version, wait until it has replaced the one before, remove that: a server's memory after each time."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil

from models.errors import DeployError
from serving.client.errors import Refused
from serving.client.rest import RestClient
from serving.local import local_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

POLL_SECONDS = 0.02  # the server's looks for new versions
LIMIT_SECONDS = 60.0  # for one version


def resident_by_cycle(
    names: Sequence[str],
    cycles: int,
    engine: str,
    repository: Path,
    folder: Path,
    progress: Callable[[int], None] = lambda cycle: None,
) -> list[int]:
    """Resident bytes with a first version of each model, and after each cycle; the models take turns.

    The versions are links to version 2 of ``repository``, put into ``folder``. Each cycle also asks a question that is
    refused: an error must not keep a version in memory. Raises DeployError when a version does not come or go.
    """

    def publish(name: str, version: int) -> None:
        staged = folder / f"staged-{name}-{version}"
        shutil.copytree(repository / name / "2", staged, copy_function=os.link)
        staged.rename(folder / "models" / name / str(version))

    entries = []
    for name in names:
        base = folder / "models" / name
        base.mkdir(parents=True)
        publish(name, 1)
        entries.append(f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}')
    config = folder / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}\n")
    flags = (f"--file_system_poll_wait_seconds={POLL_SECONDS}", f"--prefer_tflite_model={engine == 'litert'}")
    with local_server(config, engine=engine, flags=flags) as running, RestClient(running.rest_address) as client:
        server = psutil.Process(running.process.pid)
        resident = [server.memory_info().rss]
        for cycle in range(cycles):
            name, version = names[cycle % len(names)], 2 + cycle // len(names)
            with contextlib.suppress(Refused):
                client.predict(name, {"nothing": np.ones((1, 7), np.float32)})
            publish(name, version)
            _wait_until_replaced(client, name, version)
            shutil.rmtree(folder / "models" / name / str(version - 1))
            resident.append(server.memory_info().rss)
            progress(cycle + 1)
        return resident


def _wait_until_replaced(client: RestClient, name: str, version: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        states = {row["version"]: row["state"] for row in client.status(name)}
        if states.get(version) == "AVAILABLE" and states.get(version - 1) == "END":
            return
        time.sleep(POLL_SECONDS / 2)
    raise DeployError(
        f"version {version} of {name} did not replace the one before within {LIMIT_SECONDS:g} s: {states}"
    )
