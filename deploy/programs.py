"""Programs that come as Debian packages: set-up installs them as root, and without one something is skipped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.errors import DeployError

if TYPE_CHECKING:
    from pathlib import Path

# Seconds until apt-get is given up; a mirror that does not answer would hold it for many times that.
UPDATE_S = 120
DOWNLOAD_S = 600  # Chromium, 100 MB


@dataclass(frozen=True)
class Program:
    """One that is called by ``name``; ``without`` says what is missing where it is not there."""

    name: str
    package: str
    without: str

    @property
    def remedy(self) -> str:
        return f"{self.without}; apt-get install {self.package}"


WRK = Program("wrk", "wrk", "the load generator is not held against it")
PROGRAMS = (WRK,)


def missing(program: Program) -> str:
    """Why a program cannot be used and what to do about it, in words for a skipped test or row; empty when it is there."""
    return "" if shutil.which(program.name) else f"no {program.name} here: {program.remedy}"


def make_programs(tried: Path) -> None:
    """Install what is not there; set-up goes on without it. ``tried`` keeps the names that the network was asked for."""
    absent = [program for program in PROGRAMS if missing(program)]
    asked = tried.read_text().split() if tried.exists() else []
    new = [program for program in absent if program.name not in asked]
    if not new:
        return
    for program in new:  # one at a time: a package that is not to be had does not keep the others away
        if not (apt_install(program.package) and shutil.which(program.name)):
            print(f"setup: {missing(program)} (as root), then run `make setup` again", flush=True)
    tried.write_text("\n".join([*asked, *(program.name for program in new if missing(program)), ""]))


def apt_install(*packages: str) -> bool:
    """Install Debian packages as root; False when that is not possible here."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print(f"setup: installing {' '.join(packages)} with apt-get", flush=True)
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
    try:
        run_within(UPDATE_S, "apt-get", "update", "-qq")
        run_within(DOWNLOAD_S, *install, "--download-only")
    except DeployError:
        return False
    # Without a limit: it asks nobody any more, and a dpkg that is interrupted leaves the machine half installed.
    options: dict[str, Any] = {"capture_output": True, "stdin": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run([*install, "--no-download"], env=environment, **options).returncode == 0


def run_within(seconds: float, *command: str | Path, folder: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that asks the network; when it takes longer, it is ended with its children. Raises DeployError."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(command, cwd=folder, text=True, start_new_session=True, **pipes)
    except OSError as error:
        raise DeployError(f"{command[0]} does not run: {error.strerror}") from None
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise DeployError(f"{' '.join(map(str, command[:2]))}: not done within {seconds:g} s") from None
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
