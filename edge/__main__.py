"""``edge serve``: the service on a production WSGI server (Granian), one process and one worker below it."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge import bench
from edge.errors import EdgeError, SettingError
from edge.library import ModelLibrary, check_folder

if TYPE_CHECKING:
    from flask import Flask

REQUEST_THREADS = 4  # a slow client holds one; invocations of one model take turns anyway
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    options = _parser().parse_args()
    try:
        if options.command == "bench":
            sys.exit(bench.run(options))
        serve(options)
    except EdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge", description="Answer predictions from .tflite files over HTTP.")
    commands = parser.add_subparsers(dest="command", required=True)
    bench.add_parser(commands)
    command = commands.add_parser(
        "serve", help="start the service", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    command.add_argument("--port", type=int, default=8090, help="TCP port")
    command.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in")
    command.add_argument(
        "--models",
        type=Path,
        default=Path("artifacts/lite"),
        metavar="DIR",
        help="<model>/<version>/<variant>.tflite + .json",
    )
    command.add_argument("--variant", default="int8", help="which files of that folder")
    command.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one invocation")
    return parser


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingError for what the command line got wrong."""
    if options.threads < 1:
        raise SettingError(f"--threads {options.threads} is no number of threads; use 1 or more")
    _check_port(options.bind, options.port)
    found = check_folder(options.models, options.variant)
    print(
        f"edge: {found} {options.variant} files in {options.models}, http://{options.bind}:{options.port}",
        flush=True,
    )

    from granian.constants import Interfaces
    from granian.server import Server

    server = Server(
        "edge.app",
        address=options.bind,
        port=options.port,
        interface=Interfaces.WSGI,
        websockets=False,
        workers=1,
        blocking_threads=REQUEST_THREADS,
        workers_kill_timeout=5,  # seconds
        process_name=None,
    )
    server.serve(target_loader=partial(_load, options.models, options.variant, options.threads), wrap_loader=False)


def _load(models: Path, variant: str, threads: int) -> Flask:
    """In the worker process: load the models, make the application."""
    from edge.app import create_app

    if sys.platform == "linux":  # a worker must not outlive its parent and keep the port
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        library = ModelLibrary(models, variant=variant, threads=threads)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)
    for broken in library.errors():
        print(f"edge: left out: {broken}", file=sys.stderr, flush=True)
    return create_app(library)


def _check_port(bind: str, port: int) -> None:
    if not 0 < port < 65536:
        raise SettingError(f"--port {port} is no port; use a number from 1 to 65535")
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server: connections in TIME_WAIT do not count
        try:
            probe.bind((bind, port))
        except PermissionError:
            raise SettingError(f"port {port} needs root's rights; choose one above 1023 with --port") from None
        except OSError as error:
            raise SettingError(
                f"cannot listen on {bind} port {port}: {error.strerror}; choose another with --port or --bind"
            ) from None


if __name__ == "__main__":
    main()
