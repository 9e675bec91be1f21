"""Publishing and unloading versions leaves no memory behind, in either engine."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from serving.client.errors import Refused
from serving.client.rest import RestClient
from serving.local import local_server
from tests.serving.configs import model, models
from tests.serving.deadlines import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_GROWTH = 0.05


def resident_by_cycle(names: Sequence[str], cycles: int, engine: str, source: Path, folder: Path) -> list[int]:
    """Bytes with the first version of each model, and after each time that a next version has replaced one, in turn."""

    def publish(name: str, version: int) -> None:
        staged = folder / f"staged-{name}-{version}"
        shutil.copytree(source / name / "2", staged, copy_function=os.link)
        staged.rename(folder / "models" / name / str(version))

    for name in names:
        (folder / "models" / name).mkdir(parents=True)
        publish(name, 1)
    config = folder / "models.config"
    config.write_text(models(*[model(name, folder / "models" / name) for name in names]))
    flags = ("--file_system_poll_wait_seconds=0.02", f"--prefer_tflite_model={engine == 'litert'}")
    with local_server(config, engine=engine, flags=flags) as running, RestClient(running.rest_address) as client:

        def states(name: str, *versions: int) -> list[str]:
            found = {row["version"]: row["state"] for row in client.status(name)}
            return [found.get(version, "") for version in versions]

        server = psutil.Process(running.process.pid)
        resident = [server.memory_info().rss]
        for cycle in range(cycles):
            name, version = names[cycle % len(names)], 2 + cycle // len(names)
            with pytest.raises(Refused):  # its error's traceback must not keep the version
                client.predict(name, {"nothing": np.ones((1, 7), np.float32)})
            publish(name, version)
            wait_for(
                lambda: states(name, version, version - 1) == ["AVAILABLE", "END"],  # noqa: B023
                f"version {version} of {name} instead of the one before",
            )
            shutil.rmtree(folder / "models" / name / str(version - 1))
            resident.append(server.memory_info().rss)
        return resident


@pytest.mark.parametrize(
    ("engine", "names", "cycles", "settled"),
    [
        ("litert", ["mlp"], 60, 0),
        pytest.param("tensorflow", ["mlp"], 60, 0, marks=pytest.mark.exhaustive),
        pytest.param("litert", ["mlp"], 1000, 0, marks=pytest.mark.exhaustive),
        # The first swaps make room for two versions of the lstm and the transformer, 10 MB each; it stays and is used again.
        pytest.param("litert", ["mlp", "cnn", "lstm", "transformer"], 1000, 40, marks=pytest.mark.exhaustive),
    ],
)
def test_memory_stays_through_many_versions(engine, names, cycles, settled, repository_folder, tmp_path):
    resident = resident_by_cycle(names, cycles, engine, repository_folder, tmp_path)
    start, before, after = resident[0], resident[settled], resident[-1]
    growth = after / before - 1
    print(f"{engine}, {', '.join(names)}: {start / 1e6:.1f} MB at the start, {before / 1e6:.1f} MB after {settled} cycles, "
          f"{after / 1e6:.1f} MB after {cycles} ({growth:+.1%})")  # fmt: skip
    assert growth < MAX_GROWTH
