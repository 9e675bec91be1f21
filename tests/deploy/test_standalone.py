"""The folder serving/server alone, as a stranger has it: installed by one command, with uv or with pip, and it serves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from typing import TYPE_CHECKING

import pytest
from packaging.specifiers import SpecifierSet

from deploy.environments import uv_path
from deploy.ports import free_ports
from models.artifacts import REPOSITORY
from serving.local import answers, wait_until_open

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from export.bundle import Export

# What `make` exports for its own environments is not set where a stranger is.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name not in ("UV_NO_SYNC", "VIRTUAL_ENV", "PYTHONPATH")
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = shutil.ignore_patterns(".venv*", "__pycache__", "*.egg-info", "build", "uv.lock")
    return shutil.copytree(REPOSITORY / "serving" / "server", tmp_path / "serving" / "server", ignore=made)


@pytest.fixture
def serves(
    folder: Path, exports: dict[tuple[str, int], Export], spawn: Callable[..., subprocess.Popen]
) -> Callable[..., None]:
    """``serves(*command)``: the command, with the README's flags, serves a SavedModel with a model.tflite as ``m``."""

    def check(*command: str | Path) -> None:
        root = folder.parent.parent
        shutil.copytree(exports["mlp", 2].published, root / "m" / "2")
        grpc_port, rest_port = free_ports(2)
        flags = [
            f"--port={grpc_port}",
            f"--rest_api_port={rest_port}",
            "--model_name=m",
            f"--model_base_path={root / 'm'}",
        ]
        log = root / "log"
        with log.open("w") as output:
            process = spawn(*command, *flags, cwd=root, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
        wait_until_open(process, grpc_port, log, limit=120)
        assert answers(f"127.0.0.1:{rest_port}", "m")
        assert "on litert" in log.read_text()

    return check


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_server_alone_serves_with_uv(folder: Path, serves: Callable[..., None]) -> None:
    # The interpreter of these tests may lack a shared libpython; the server's own environment has one that does not.
    python = (REPOSITORY / "serving" / "server" / ".venv" / "bin" / "python").resolve()
    command = [uv_path(), "run", "--quiet", "--python", python, "--project", "serving/server", "model-server"]
    root = folder.parent.parent
    assert run(*command, "--version", cwd=root).startswith("model-server ")
    assert "--model_base_path=" in run(*command, "--help", cwd=root)
    serves(*command)
    installed = {path.name for path in (folder / ".venv").glob("lib/python3.*/site-packages/*")}
    assert "ai_edge_litert" in installed
    assert "tensorflow" not in installed


@pytest.mark.exhaustive
def test_server_alone_serves_with_pip(folder: Path, serves: Callable[..., None]) -> None:
    python = (REPOSITORY / "serving" / "server" / ".venv" / "bin" / "python").resolve()
    run(python, "-m", "venv", "venv", cwd=folder)
    pip = [folder / "venv" / "bin" / "pip", "install", "--quiet"]
    run(*pip, "--require-hashes", "--requirement", "requirements.txt", cwd=folder)
    run(*pip, "--no-deps", "--no-build-isolation", ".", cwd=folder)
    serves(folder / "venv" / "bin" / "model-server")


@pytest.mark.parametrize("room", ["edge", "serving/server", "web"])
def test_pip_takes_every_requirement_too(room: str) -> None:
    """pip obeys what a package says of the Python that it is for; uv installs a locked version in spite of it."""
    (site,) = (REPOSITORY / room / ".venv").glob("lib/python3.*/site-packages")
    installed = list(distributions(path=[str(site)]))
    assert len(installed) > 10
    version = site.parent.name.removeprefix("python")
    refused = [d.name for d in installed if not SpecifierSet(d.metadata["Requires-Python"] or "").contains(version)]
    assert not refused


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-tensorflow.txt"])
def test_every_requirement_has_a_wheel_for_arm64(folder: Path, lock: str) -> None:
    command = [uv_path(), "pip", "install", "--quiet", "--dry-run", "--only-binary", ":all:", "--require-hashes"]
    platform = ["--python-platform", "aarch64-manylinux_2_31", "--python-version", "3.11", "--python", sys.executable]
    run(*command, *platform, "--target", folder / "arm64", "--requirement", lock, cwd=folder)
