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
    from pathlib import Path

ROW = {"features": np.ones((1, 30), np.float32)}
MAX_GROWTH = 0.05


def resident_after_cycles(cycles: int, engine: str, source: Path, folder: Path) -> tuple[int, int]:
    """Bytes after the first version, and after ``cycles`` times the next one has come, answered, and replaced it."""
    base = folder / "models" / "mlp"

    def publish(version: int) -> None:
        staged = folder / f"staged-{version}"
        shutil.copytree(source, staged, copy_function=os.link)
        staged.rename(base / str(version))

    base.mkdir(parents=True)
    publish(1)
    config = folder / "models.config"
    config.write_text(models(model("mlp", base)))
    flags = ("--file_system_poll_wait_seconds=0.02", f"--prefer_tflite_model={engine == 'litert'}")
    with local_server(config, engine=engine, flags=flags) as running, RestClient(running.rest_address) as client:

        def answers(version: int) -> bool:
            try:
                return bool(client.predict("mlp", ROW, version=version))
            except Refused:
                return False

        server = psutil.Process(running.process.pid)
        assert answers(1)
        before = server.memory_info().rss
        for version in range(2, cycles + 2):
            publish(version)
            wait_for(lambda: answers(version), f"version {version}")  # noqa: B023
            shutil.rmtree(base / str(version - 1))
        with pytest.raises(Refused):  # its error's traceback must not keep the version
            client.predict("mlp", {"features": np.ones((1, 7), np.float32)})
        publish(cycles + 2)
        wait_for(lambda: len([r for r in client.status("mlp") if r["state"] != "END"]) == 1, "one version is left")
        return before, server.memory_info().rss


@pytest.mark.parametrize(
    ("engine", "cycles"),
    [
        ("litert", 60),
        pytest.param("tensorflow", 60, marks=pytest.mark.exhaustive),
        pytest.param("litert", 1000, marks=pytest.mark.exhaustive),
    ],
)
def test_memory_stays_through_many_versions(engine, cycles, repository_folder, tmp_path):
    before, after = resident_after_cycles(cycles, engine, repository_folder / "mlp" / "2", tmp_path)
    growth = after / before - 1
    print(f"{engine}: {before / 1e6:.1f} MB, after {cycles} cycles {after / 1e6:.1f} MB ({growth:+.1%})")
    assert growth < MAX_GROWTH
