"""The services' ports: the environment's, else those that the running deployment was given, else ``ports.toml``'s."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from models.artifacts import artifacts_root, write_json
from models.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def port(name: str) -> int:
    """The port called ``name`` ("GRPC_PORT", …). Raises DeployError when the environment's value is no port."""
    default = tomllib.loads(Path(__file__).with_name("ports.toml").read_text())[name]
    value = os.environ.get(name) or _remembered().get(name) or default
    try:
        number = int(value)
    except ValueError:
        number = 0
    if not 0 < number < 65536:
        raise DeployError(f"{name}={value} is no port; use a number from 1 to 65535, for example {name}={default}")
    return number


def free_ports(count: int) -> list[int]:
    """Free ports of loopback, all different."""
    with reserved_ports(count) as ports:
        return ports


@contextlib.contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Free ports of loopback that nobody else is given while the block lasts; a model server can listen on them.

    The system gives a port that is only bound to nobody who asks for any free one. With SO_REUSEADDR, which the server
    sets too, it can be bound by its number.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for holder in sockets:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
        yield [holder.getsockname()[1] for holder in sockets]
    finally:
        for holder in sockets:
            holder.close()


def remember_ports(ports: Mapping[str, int]) -> None:
    """Keep the ports of a deployment until ``forget_ports``: `make demo` finds it without being told them again."""
    write_json(_file(), dict(ports))


def forget_ports() -> None:
    with contextlib.suppress(OSError):
        _file().unlink()


def _remembered() -> dict[str, int]:
    try:
        return dict(json.loads(_file().read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _file() -> Path:
    return artifacts_root() / "run" / "ports.json"
