"""Addresses and ports: loopback on IPv4 and IPv6 by default, and one sentence when a port is taken."""

from __future__ import annotations

import errno
import ipaddress
import socket
import stat
from pathlib import Path

from model_server.errors import StartError


def addresses(bind_address: str) -> list[str]:
    """The addresses for --bind_address: for IPv4's loopback IPv6's as well, where the machine has one.

    Raises StartError for a name, which Envoy does not look up.
    """
    try:
        ipaddress.ip_address(bind_address)
    except ValueError:
        raise StartError(
            f"--bind_address={bind_address} is no IP address; write for example --bind_address=0.0.0.0 or --bind_address=::1"
        ) from None
    return ["127.0.0.1", "::1"] if bind_address == "127.0.0.1" and _has_ipv6_loopback() else [bind_address]


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def bind(address: str, port: int, flag: str) -> socket.socket:
    """A bound socket that does not listen yet. Raises StartError naming the port and the flag."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        if not port:  # any free one, which nobody would know
            raise OverflowError
        found.bind((address, port))
        return found
    except OverflowError:
        reason = "is no port; use a number from 1 to 65535"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"is taken by another process; stop it or choose another port with --{flag}="
        else:
            reason = f"cannot be used: {error.strerror}; choose another with --{flag}= or --bind_address="
    found.close()
    raise StartError(f"port {port} on {address} {reason}")


def check_free(address: str, port: int, flag: str) -> None:
    """Raises StartError where ``bind`` would.

    It does not listen, which would open the port for a moment: a client that waits for the server would take it for
    ready and lose its connection.
    """
    bind(address, port, flag).close()


def check_socket_path(path: str) -> None:
    """Raises StartError unless a unix socket can be made at ``path``, which removes what a killed server left."""
    if not path:
        return
    remedy = "choose another path with --grpc_socket_path="
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            raise StartError(f"{path} exists and is no socket; {remedy}")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
        raise StartError(f"another process listens on {path}; stop it or {remedy}")
    except (FileNotFoundError, ConnectionRefusedError):
        pass  # nothing there, or a stale one
    except OSError as error:
        raise StartError(f"{path} cannot be used: {error.strerror or error}; {remedy}") from None
    try:
        Path(path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)
        Path(path).unlink()
    except OSError as error:
        raise StartError(f"no socket can be made at {path}: {error.strerror or error}; {remedy}") from None
