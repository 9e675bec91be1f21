"""``make edge-push HOST=user@device``: make the bundle for that machine, copy it by ssh, install it there.

One question (which machine?) and one connection: the archive goes through it into a temporary folder, ``install.sh`` runs
there, the folder is removed. Never asks for a password: keys, ports and jump hosts stand in ssh's own configuration, or
in SSH_OPTIONS.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from deploy.bundle import NAME, VARIANTS, make_bundle, names
from deploy.wheels import MACHINES
from models.errors import DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ANSWER_WITHIN_S = 10
_ASK = "uname -m; getconf LONG_BIT"
# /var/tmp is on the disk; /tmp is memory on many a device. Only a unit needs root.
_INSTALL = """set -e
folder=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$folder"' EXIT
tar -xzf - -C "$folder"
if [ "$(id -u)" = 0 ] || {no_root}; then sh "$folder/{name}/install.sh" {arguments}
elif sudo -n true 2>/dev/null; then sudo -n sh "$folder/{name}/install.sh" {arguments}
else echo "error: $(id -un) is not root here and sudo asks for a password; log in as root, or install for this user alone: \
INSTALL='--no-service --prefix /home/…'" >&2; exit 2; fi
"""


def push(host: str, archive: Path, *, options: Sequence[str] = (), install: Sequence[str] = ()) -> None:
    """Copy ``archive`` to ``host`` and install it; ``options`` are ssh's, ``install`` install.sh's. Raises DeployError."""
    print(f"sending {archive.name}, {archive.stat().st_size / 1e6:.0f} MB, to {host}", flush=True)
    arguments = shlex.join(install)
    script = _INSTALL.format(name=NAME, arguments=arguments, no_root=str("--no-service" in install).lower())
    with archive.open("rb") as content:
        done = subprocess.run([*_ssh(host, options), script], stdin=content)
    if done.returncode == 255:
        raise DeployError(f"the connection to {host} broke; run it again, nothing there was replaced by halves")
    if done.returncode:
        raise DeployError(f"install.sh failed on {host}, with the reason above; what ran there before still runs")


def machine_of(host: str, options: Sequence[str] = ()) -> str:
    """The ARCH of a host. Raises DeployError where it cannot be reached, or is a machine that there are no bundles for."""
    done = subprocess.run([*_ssh(host, options), _ASK], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 255:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise DeployError(
            f"{host} cannot be reached: {said[-1]}; try `ssh {shlex.join([*options, host])}`, which must not ask for a password"
        )
    kernel, _, bits = done.stdout.strip().partition("\n")
    arch = "armv7l" if kernel in ("aarch64", "armv8l") and bits == "32" else kernel
    if arch not in MACHINES:
        raise DeployError(f"{host} is {arch or 'no Linux machine'}; there are bundles for {', '.join(MACHINES)}")
    return arch


def _ssh(host: str, options: Sequence[str]) -> list[str]:
    return ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={ANSWER_WITHIN_S}", *options, "--", host]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.push",
        description=__doc__.splitlines()[0],
        epilog="Environment: MODELS restricts the models, SSH_OPTIONS goes to ssh (-p 2222 -i key), INSTALL to install.sh.",
    )
    parser.add_argument("host", metavar="HOST", help="user@device, or a name of ssh's configuration")
    parser.add_argument("--arch", help=f"{', '.join(MACHINES)} (default: what the device says)")
    parser.add_argument("--variants", type=names, default=VARIANTS, help=f"default: {','.join(VARIANTS)}")
    arguments = parser.parse_args(argv)
    options = shlex.split(os.environ.get("SSH_OPTIONS", ""))
    if arguments.host.startswith("-"):
        raise DeployError(
            f"HOST={arguments.host} is no host; write for example: make edge-push HOST=pi@raspberrypi.local"
        )
    arch = arguments.arch or machine_of(arguments.host, options)
    archive = make_bundle(arch, models=names(os.environ.get("MODELS", "")) or None, variants=arguments.variants)
    push(arguments.host, archive, options=options, install=shlex.split(os.environ.get("INSTALL", "")))
    print(f"push: {arch} bundle installed on {arguments.host}")


if __name__ == "__main__":
    run_cli(main)
