"""The wheels that a lock asks for on another machine, fetched once and kept.

pip can fetch for a foreign platform, but judges a lock's markers by its own: they are decided here. What was fetched is
known by the lock's hashes, so a second run needs no network.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from models.artifacts import sha256_file
from models.errors import DeployError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A kind of device. ``pythons`` are CPython's versions there, each with the minor version of its glibc 2."""

    arch: str
    pythons: dict[str, int]

    def platforms(self, python: str) -> list[str]:
        """pip's names, newest glibc first; 17 is manylinux2014, the oldest that the lock's packages are built for."""
        return [*(f"manylinux_2_{minor}_{self.arch}" for minor in range(self.pythons[python], 16, -1)),
                f"manylinux2014_{self.arch}"]  # fmt: skip

    def markers(self, python: str) -> dict[str, str]:
        """What PEP 508 markers are judged by on that machine."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        }


DEBIAN_12, DEBIAN_13 = 36, 41  # their glibc, 2.36 and 2.41

# Debian 12 has Python 3.11, Debian 13 has 3.13; Raspberry Pi OS is built on them. 3.12 is Ubuntu 24.04 (glibc 2.39).
MACHINES = {
    machine.arch: machine
    for machine in (
        Machine(arch="aarch64", pythons={"3.11": DEBIAN_12, "3.13": DEBIAN_13}),
        Machine(arch="armv7l", pythons={"3.11": DEBIAN_12}),  # tflite-runtime ends with 3.11
        Machine(arch="x86_64", pythons={"3.11": DEBIAN_12, "3.12": 39, "3.13": DEBIAN_13}),
    )
}


@dataclass(frozen=True)
class Pin:
    """One requirement of a lock, without its marker."""

    requirement: str
    hashes: frozenset[str]

    def line(self) -> str:
        return " ".join([self.requirement, *(f"--hash=sha256:{sha256}" for sha256 in sorted(self.hashes))])


def read_lock(lock: Path, machine: Machine, python: str) -> list[Pin]:
    """The pins of a lock that count on that machine, in its order."""
    pins = []
    for line in lock.read_text().replace("\\\n", " ").splitlines():
        if not line or line.startswith((" ", "#")):
            continue
        text, *hashes = line.split("--hash=sha256:")
        requirement = Requirement(text.strip())
        if requirement.marker is None or requirement.marker.evaluate(machine.markers(python)):
            pins.append(Pin(f"{requirement.name}{requirement.specifier}", frozenset(h.strip() for h in hashes)))
    return pins


def fetch_wheels(pins: list[Pin], machine: Machine, python: str, *, pip: list[str], folder: Path) -> list[Path]:
    """One wheel for each pin, below ``folder``, where they stay. Raises DeployError for one that cannot be had.

    ``pip`` is the command; it asks the index that this machine is set up with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _missing(pins, folder):
        print(f"fetching the wheels for {machine.arch}, CPython {python}", flush=True)
        wanted = folder / "requirements.txt"
        wanted.write_text("".join(f"{pin.line()}\n" for pin in pins))
        command = [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--dest", str(folder), "--requirement", str(wanted)]
        command += ["--implementation", "cp", "--python-version", python]
        command += [f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")]
        command += [f"--platform={platform}" for platform in machine.platforms(python)]
        done = subprocess.run(command, capture_output=True, text=True)
        if lacking := _missing(pins, folder):
            said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            raise DeployError(
                f"no wheel of {', '.join(lacking)} for {machine.arch} with CPython {python} could be fetched "
                f"(pip: {said[-1] if said else 'no reason given'}); "
                "check the network and pip's index, or choose another ARCH"
            )
    found = {sha256_file(path): path for path in sorted(folder.glob("*.whl"))}
    return [next(found[sha256] for sha256 in sorted(pin.hashes & found.keys())) for pin in pins]


def _missing(pins: list[Pin], folder: Path) -> list[str]:
    there = {sha256_file(path) for path in folder.glob("*.whl")}
    return [pin.requirement for pin in pins if not pin.hashes & there]
