"""deploy/bootstrap.sh in a folder of its own, with nothing on PATH but what a fresh Debian has."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
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


def pinned_uv() -> str:
    """The version of uv that ``deploy/uv.txt`` has."""
    lines = (REPOSITORY / "deploy" / "uv.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("uv==")).split()[0].removeprefix("uv==")


def make_wheel(folder: Path, version: str) -> str:
    """A package named uv, with a program that only knows its version; returns its sha256. The real one has 20 MB."""
    info = f"uv-{version}.dist-info"
    contents = {
        f"uv-{version}.data/scripts/uv": f"#!/bin/sh\necho uv {version} of a test\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: uv\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{info}/RECORD,,"]
    for name, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(text)}")
    path = folder / f"uv-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (contents | {f"{info}/RECORD": "\n".join(record)}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (
                stat.S_IFREG | 0o755
            ) << 16  # pip leaves a program executable that is so in its wheel
            wheel.writestr(entry, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    """By the real venv and the real pip, from a folder in place of the network; what lies there was interrupted."""
    machine.link("python3", sys.executable)
    sha256 = make_wheel(machine.folder, pinned_uv())
    (machine.folder / "deploy" / "uv.txt").write_text(f"uv=={pinned_uv()} \\\n    --hash=sha256:{sha256}\n")
    uv = machine.folder / ".venv-bootstrap" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("half a download")
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": machine.folder.as_uri(), "PIP_CONFIG_FILE": os.devnull}
    done = machine.run(**offline)
    assert done.returncode == 0, done.stderr
    assert "installing uv into .venv-bootstrap" in done.stdout
    version = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True).stdout
    assert version == f"uv {pinned_uv()} of a test\n"
    again = machine.run(**offline)
    assert "installing" not in again.stdout
    assert again.stdout.strip().endswith(str(uv))


@needs_venv
@pytest.mark.ci
@pytest.mark.slow
def test_bootstrap_gets_the_real_uv_over_the_network(machine: Machine) -> None:
    machine.link("python3", sys.executable)
    done = machine.run()
    if "check the network" in done.stderr:
        pytest.skip("no network")
    assert done.returncode == 0, done.stderr
    uv = machine.folder / ".venv-bootstrap" / "bin" / "uv"
    version = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.split()[1] == pinned_uv()
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
