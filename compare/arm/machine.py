"""An ARM machine that is only a folder: Debian 12's Python and C library, the unpacked edge bundle, its wheels.

    artifacts/arm/<arch>/root/      Debian's packages, unpacked; usr/bin/python-emulated runs their Python in the emulator
    artifacts/arm/<arch>/bundle/    export-once-edge/ of the archive
    artifacts/arm/<arch>/packages/  its wheels, installed

The emulated Python believes that it is ``python-emulated``: what starts it again, as a service does for its worker,
gets the emulator too.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compare.arm.debian import CannotEmulate, Release, unpack
from compare.arm.emulator import Emulator, find_emulator
from deploy.bundle import NAME, PIP, make_bundle
from deploy.wheels import MACHINES
from models.artifacts import artifacts_root, sha256_file, write_whole
from models.errors import DeployError, TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE, PYTHON = "bookworm", "3.11"  # Debian 12; Raspberry Pi OS "bookworm" is built on it
_STAMP = ".made-from"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What one kind of ARM machine is called by Debian and by qemu, and the runtime that it has."""

    arch: str
    debian: str
    program: str
    cpu: str
    runtime: str
    packages: tuple[str, ...] = ()


# The processors of a Raspberry Pi 4 and 2; newer ones give the same results.
KINDS = {
    kind.arch: kind
    for kind in (
        Kind(arch="aarch64", debian="arm64", program="qemu-aarch64", cpu="cortex-a72", runtime="ai-edge-litert"),
        Kind(
            arch="armv7l",
            debian="armhf",
            program="qemu-arm",
            cpu="cortex-a7",
            runtime="tflite-runtime",
            packages=("python3-numpy",),  # there is no wheel of it
        ),
    )
}


@dataclass(frozen=True)
class ArmMachine:
    kind: Kind
    emulator: Emulator
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.kind.program} {self.emulator.version}, {self.kind.cpu}"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle" / NAME

    def command(self, *arguments: str) -> list[str]:
        """Runs ``python`` with these arguments in the emulator; start it in ``bundle`` with ``environment``."""
        return [str(self._python), *arguments]

    def environment(self) -> dict[str, str]:
        places = [self.bundle, self.folder / "packages"]
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(map(str, places)),
            "PYTHONUNBUFFERED": "1",
            # OpenBLAS ends its threads before a fork; if qemu has not quite ended one, the child waits for it for ever.
            "OPENBLAS_NUM_THREADS": "1",
        }

    @property
    def _python(self) -> Path:
        return self.folder / "root" / "usr" / "bin" / "python-emulated"

    def write_command(self) -> None:
        """-0: what the program sees as its own name; -L: where its C library is."""
        root = self.folder / "root"
        self._python.write_text(
            f"#!/bin/sh\n"
            f'exec "{self.emulator.path}" -cpu {self.kind.cpu} -0 "$0" -L "{root}" "{root}/usr/bin/python{PYTHON}" "$@"\n'
        )
        self._python.chmod(0o755)


def make_machine(arch: str, *, variants: Sequence[str]) -> ArmMachine:
    """Bring the folder up to date with today's bundle. Raises CannotEmulate, or an error that is the user's to fix."""
    if arch not in KINDS:
        raise DeployError(f"ARCH={arch} is no machine that can be emulated; use {', '.join(KINDS)}")
    kind = KINDS[arch]
    machine = ArmMachine(kind, find_emulator(kind.program), artifacts_root() / "arm" / arch)
    _make_root(machine)
    machine.write_command()
    done = subprocess.run(machine.command("-c", ""), env=machine.environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotEmulate(f"{machine.label} does not run Python here: {done.stderr.strip() or done.returncode}")
    _unpack_bundle(make_bundle(arch, variants=variants), machine)
    _install_wheels(machine)
    return machine


def _make_root(machine: ArmMachine) -> None:
    root, kind = machine.folder / "root", machine.kind
    packages = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6", *kind.packages)
    made_from = f"{SUITE} {kind.debian} {' '.join(packages)}"
    if _made_from(root) == made_from:
        return
    print(f"fetching Debian 12's Python for {kind.arch} …", flush=True)
    with tempfile.TemporaryDirectory() as apt, write_whole(root) as temporary:
        for package in Release(SUITE, kind.debian, Path(apt)).fetch(*packages, with_needs=True):
            unpack(package, temporary)
        # What the packages' own scripts would do: one of several libraries of that name is chosen.
        for name in ("blas", "lapack"):
            for library in temporary.glob(f"usr/lib/*/{name}/lib{name}.so.3"):
                (library.parent.parent / library.name).symlink_to(f"{name}/{library.name}")
        (temporary / _STAMP).write_text(made_from)


def _unpack_bundle(archive: Path, machine: ArmMachine) -> None:
    place, made_from = machine.folder / "bundle", sha256_file(archive)
    if _made_from(place) == made_from:
        return
    with write_whole(place) as temporary:
        with tarfile.open(archive) as content:
            content.extractall(temporary, filter="data")
        (temporary / _STAMP).write_text(made_from)


def _install_wheels(machine: ArmMachine) -> None:
    """As install.sh does on a device, by this machine's pip: under emulation it takes minutes."""
    place, arch = machine.folder / "packages", machine.kind.arch
    wheels = machine.bundle / "wheels"
    wanted = wheels / f"requirements-{arch}-cp{PYTHON.replace('.', '')}.txt"
    made_from = sha256_file(wanted)
    if _made_from(place) == made_from:
        return
    print(f"installing the bundle's wheels for {arch} …", flush=True)
    platforms = [option for name in MACHINES[arch].platforms(PYTHON) for option in ("--platform", name)]
    with write_whole(place) as temporary:
        command = [PIP, "-m", "pip", "--isolated", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--no-index", "--no-deps", "--find-links", wheels, "--require-hashes", "--requirement", wanted]
        command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON, *platforms]
        done = subprocess.run([*map(str, command), "--target", str(temporary)], capture_output=True, text=True)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["no reason given"]
            raise TargetError(f"the bundle's wheels for {arch} cannot be installed: {said[-1]}")
        (temporary / _STAMP).write_text(made_from)


def _made_from(folder: Path) -> str | None:
    try:
        return (folder / _STAMP).read_text()
    except OSError:
        return None


def disk_bytes() -> int:
    """What ``artifacts/arm`` holds."""
    files = (artifacts_root() / "arm").rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())
