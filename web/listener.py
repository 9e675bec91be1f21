"""A Flask application on Granian: one worker, a clean stop, and one sentence for a port that cannot be had."""

from __future__ import annotations

import ctypes
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Flask

REQUEST_THREADS = 8  # each may wait for a back end
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class SettingError(Exception):
    """What the command line got wrong, in one sentence with the remedy."""


def run(main: Callable[[], None]) -> None:
    try:
        main()
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def serve(create: Callable[..., Flask], settings: Mapping[str, Any], *, bind: str, port: int) -> None:
    """Serve ``create(**settings)`` until SIGTERM or SIGINT. Raises SettingError."""
    for name in ("rest", "edge"):
        if not str(settings[name]).startswith(("http://", "https://")):
            raise SettingError(f"--{name} {settings[name]} is no address; use one like http://127.0.0.1:8501")
    check_port(bind, port)
    print(f"web: http://{bind}:{port}, models of {settings['artifacts']}", flush=True)

    from granian.constants import Interfaces
    from granian.server import Server

    server = Server(
        "web.app",
        address=bind,
        port=port,
        interface=Interfaces.WSGI,
        websockets=False,
        workers=1,
        blocking_threads=REQUEST_THREADS,
        workers_kill_timeout=5,  # seconds
        process_name=None,
    )
    server.serve(target_loader=partial(_load, create, dict(settings)), wrap_loader=False)


def _load(create: Callable[..., Flask], settings: dict[str, Any]) -> Flask:
    """In the worker process, which must not outlive its parent and keep the port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return create(**settings)


def check_port(bind: str, port: int) -> None:
    if not 0 < port < 65536:
        raise SettingError(f"--port {port} is no port; use a number from 1 to 65535")
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server: TIME_WAIT does not count
        try:
            probe.bind((bind, port))
        except PermissionError:
            raise SettingError(f"port {port} needs root's rights; choose one above 1023 with --port") from None
        except OSError as error:
            raise SettingError(
                f"cannot listen on {bind} port {port}: {error.strerror}; choose another with --port or --bind"
            ) from None
