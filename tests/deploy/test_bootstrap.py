"""deploy/bootstrap.sh in a folder of its own, with nothing on PATH but what a fresh Debian has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from deploy.environments import uv_path
from models.artifacts import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

SHOW = "import os, sys; print(sys.version_info[1], sys.executable, os.environ['UV'])"
# What bootstrap.sh may use; all of it is in Debian's essential packages.
TOOLS = ("sh", "cut", "cat", "dirname", "grep", "id", "mktemp", "rm", "sed", "tail")


class Machine:
    """A folder with the script, and a PATH with the tools and what a test adds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        (folder / "deploy").mkdir()
        for name in ("bootstrap.sh", "uv.txt"):
            shutil.copy(REPOSITORY / "deploy" / name, folder / "deploy")
        for tool in TOOLS:
            self.link(tool, shutil.which(tool) or "")

    def link(self, name: str, target: str) -> None:
        assert target, f"{name} is not on this machine"
        (self.bin / name).symlink_to(target)

    def write(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("UV", "PYTHON", "VIRTUAL_ENV")}
        return subprocess.run(
            ["sh", "deploy/bootstrap.sh", "-c", SHOW],
            cwd=self.folder,
            env={**kept, "PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
        )


needs_venv = pytest.mark.skipif(not find_spec("ensurepip"), reason="this Python has no venv module: python3-venv")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "fresh machine")


def test_bootstrap_uses_what_is_on_path(machine: Machine) -> None:
    machine.link("uv", uv_path())
    machine.link("python3", sys.executable)
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=2)[0] == str(sys.version_info[1])
    assert done.stdout.strip().endswith(f"{machine.bin}/uv")


def test_bootstrap_is_not_fooled_by_a_shim_that_does_not_run(machine: Machine) -> None:
    machine.link("uv", uv_path())
    machine.write("python3", "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n")
    machine.link(f"python3.{sys.version_info[1]}", sys.executable)
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{sys.version_info[1]} ")


def test_bootstrap_passes_over_a_python_that_is_too_old(machine: Machine) -> None:
    machine.link("uv", uv_path())
    machine.write("python3", f'#!/bin/sh\nexec {sys.executable} -c "raise SystemExit(1)"\n')
    machine.link(f"python3.{sys.version_info[1]}", sys.executable)
    assert machine.run().returncode == 0


@needs_venv
@pytest.mark.slow
def test_bootstrap_without_uv_installs_the_pinned_one_once(machine: Machine) -> None:
    machine.link("python3", sys.executable)
    done = machine.run()
    if "check the network" in done.stderr:
        pytest.skip("no network")
    assert done.returncode == 0, done.stderr
    uv = machine.folder / ".venv-bootstrap" / "bin" / "uv"
    pinned = next(
        line for line in (REPOSITORY / "deploy" / "uv.txt").read_text().splitlines() if line.startswith("uv==")
    )
    version = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.split()[1] == pinned.split()[0].removeprefix("uv==")
    again = machine.run()
    assert "installing" not in again.stdout
    assert again.stdout.strip().endswith(str(uv))

    uv.write_text("half a download")
    mended = machine.run()
    assert mended.returncode == 0, mended.stderr
    assert "installing uv" in mended.stdout


@needs_venv
@pytest.mark.slow
def test_bootstrap_without_network_is_one_sentence(machine: Machine) -> None:
    machine.link("python3", sys.executable)
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    done = machine.run(**nowhere, PIP_EXTRA_INDEX_URL="", PIP_NO_CACHE_DIR="1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: uv could not be installed")
    assert "check the network" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
