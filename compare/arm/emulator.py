"""qemu-user: runs a program of another processor as a process of this system. Version 10 or newer.

7.2 crashes in XNNPACK's kernels. One on the PATH is taken where it is new enough, else Debian's is unpacked below
``artifacts/arm/qemu``; nothing is installed or registered.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from compare.arm.debian import CannotEmulate, Release, this_machine, unpack
from models.artifacts import artifacts_root, write_whole

OLDEST = 10
SUITES = ("bookworm-backports", "trixie")  # which have it, the smaller list first
PROGRAMS = ("qemu-aarch64", "qemu-arm")


@dataclass(frozen=True)
class Emulator:
    path: Path
    version: str


def find_emulator(program: str) -> Emulator:
    """``program``: one of PROGRAMS. Raises CannotEmulate with the reason why it cannot be had."""
    kept = artifacts_root() / "arm" / "qemu"
    found = [Path(where) for name in (program, f"{program}-static") if (where := shutil.which(name))]
    for path in (*found, kept / program):
        if (version := _version(path)) and _new_enough(version):
            return Emulator(path, version)
    older = f" (here is {_version(found[0])})" if found else ""
    try:
        _fetch(kept)
    except CannotEmulate as error:
        raise CannotEmulate(f"no qemu-user {OLDEST} or newer{older}, and it cannot be fetched: {error}") from error
    return Emulator(kept / program, _version(kept / program) or "")


def _fetch(kept: Path) -> None:
    problem = ""
    for suite in SUITES:
        print(f"fetching qemu-user of Debian's {suite} …", flush=True)
        try:
            return _fetch_from(suite, kept)
        except CannotEmulate as error:
            problem = str(error)
    raise CannotEmulate(problem)


def _fetch_from(suite: str, kept: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        [package] = Release(suite, this_machine(), folder / "apt").fetch("qemu-user", with_needs=False)
        unpack(package, folder / "root")
        programs = [folder / "root" / "usr" / "bin" / program for program in PROGRAMS]
        version = _version(programs[0]) or "none that runs here"
        if not _new_enough(version):
            raise CannotEmulate(f"the one of Debian's {suite} is {version}")
        with write_whole(kept) as temporary:
            temporary.mkdir()
            for program in programs:
                shutil.copy2(program, temporary)


def _version(path: Path) -> str | None:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"version (\d+\.\d+(?:\.\d+)*)", told)
    return found[1] if found else None


def _new_enough(version: str) -> bool:
    major = version.partition(".")[0]
    return major.isdigit() and int(major) >= OLDEST
