"""Debian packages of another machine or release, fetched and unpacked without touching this system's own packages.

apt-get is given a configuration, package lists and a cache of its own below a folder. The mirror is one that this
system is set up with, only the name of the release changes. Signatures are checked; neither root nor chroot is needed.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEEDED = ("apt-get", "dpkg", "dpkg-deb")
_PATIENCE = 300  # seconds for one command: a slow mirror, but not one that never answers


class CannotEmulate(TargetError):
    """What is needed cannot be had on this machine; the message is the reason."""


def this_machine() -> str:
    """Debian's name of it: amd64, arm64. Raises CannotEmulate where this is no Debian."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        raise CannotEmulate(f"{', '.join(missing)} not found here, with which Debian's packages are fetched")
    return _run(["dpkg", "--print-architecture"]).strip()


@dataclass(frozen=True)
class Release:
    """One release for one kind of machine; ``folder`` takes apt-get's lists and what it fetches."""

    suite: str
    machine: str
    folder: Path

    def fetch(self, *packages: str, with_needs: bool) -> list[Path]:
        """The .deb files of ``packages``, and of all that they need. Raises CannotEmulate with apt-get's last line."""
        self._configure()
        self._update()
        if with_needs:
            self._apt("--yes", "--no-install-recommends", "--download-only", "install", *packages)
        else:
            self._apt("download", *packages)
        return sorted(self.archives.glob("*.deb"))

    @property
    def archives(self) -> Path:
        return self.folder / "archives"

    def _configure(self) -> None:
        for name in ("lists/partial", "archives/partial", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        (self.folder / "apt.conf").write_text(f"""
#clear APT::Update;
#clear DPkg;
#clear APT::Architectures;
APT::Architecture "{self.machine}";
APT::Architectures {{ "{self.machine}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::Etc::SourceList "{self.folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{self.folder}/state";
Dir::State::Status "{self.folder}/status";
Dir::State::Lists "{self.folder}/lists";
Dir::Cache "{self.folder}";
Dir::Cache::Archives "{self.archives}";
""")

    def _update(self) -> None:
        """From the first mirror that has the release."""
        problem = "this system is set up with no mirror of Debian"
        signed = f" [signed-by={KEYRING}]" if KEYRING.exists() else ""
        for mirror in _mirrors():
            (self.folder / "sources.list").write_text(f"deb{signed} {mirror} {self.suite} main\n")
            try:
                return self._apt("--error-on=any", "update")
            except CannotEmulate as error:
                problem = str(error)
        raise CannotEmulate(f"no lists of Debian's {self.suite} for {self.machine}: {problem}")

    def _apt(self, *arguments: str) -> None:
        _run(["apt-get", "--quiet", "--config-file", str(self.folder / "apt.conf"), *arguments], folder=self.archives)


def unpack(package: Path, folder: Path) -> None:
    """All files of a .deb below ``folder``; its scripts are not run."""
    _run(["dpkg-deb", "--extract", str(package), str(folder)])


def _mirrors() -> list[str]:
    """Of Debian, as this system's own sources name them."""
    listed = _run(["apt-get", "update", "--print-uris"])
    sites = [line.split("'")[1].partition("/dists/")[0] for line in listed.splitlines() if "/dists/" in line]
    return [site for site in dict.fromkeys(sites) if site.rstrip("/").endswith("/debian")]


def _run(command: Sequence[str], *, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotEmulate(f"{command[0]} did not end well: {error}") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise CannotEmulate(f"{command[0]}: {said[0].removeprefix('E:').strip() if said else 'no reason given'}")
    return done.stdout
