"""``edge serve``: the service on a production WSGI server (Granian), one process and one worker below it."""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.bearer import MAKE_TOKEN, read_token
from edge.errors import SettingError
from edge.interpreters import RUNTIMES, choose_runtime
from edge.library import ModelLibrary, check_folder

if TYPE_CHECKING:
    from flask import Flask

REQUEST_THREADS = 32  # made when needed; a client that stops in the middle of its body holds one
HEADER_LIMIT = 16 << 10  # bytes
HEADER_WAIT_MS = 10_000  # for a request's head, and for the next request of a connection
BODY_LIMIT = 16 << 20  # bytes; a row of the largest model here has 1 kB
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "serve", help="start the service", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    command.add_argument("--port", type=int, default=8090, help="TCP port")
    command.add_argument(
        "--bind", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in, and wants a token"
    )
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the bearer token that a request must bring; without it the environment's EDGE_TOKEN, if there is one",
    )
    command.add_argument(
        "--allow-anonymous", action="store_true", help="no token though --bind is open: where something else guards it"
    )
    command.add_argument(
        "--models",
        type=Path,
        default=Path("artifacts/lite"),
        metavar="DIR",
        help="<model>/<version>/<variant>.tflite + .json",
    )
    command.add_argument("--variant", default="int8", help="which files of that folder")
    command.add_argument(
        "--poll",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="how often the folder is looked at for new files; 0: only at SIGHUP and POST /v1/reload",
    )
    command.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one invocation")
    command.add_argument(
        "--interpreters", type=int, default=1, metavar="N", help="how many calls of one model may run at once"
    )
    command.add_argument("--runtime", choices=RUNTIMES, help="instead of the first that is installed")
    command.add_argument(
        "--delegate", metavar="LIBRARY", help="an external delegate's shared library, or 'none': not even XNNPACK"
    )
    command.add_argument("--max-body", type=int, default=BODY_LIMIT, metavar="BYTES", help="of one request")


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises SettingError for what the command line got wrong."""
    _check_numbers(options)
    token = read_token(options.token_file)
    if token is None and not options.allow_anonymous and not _is_loopback(options.bind):
        raise SettingError(
            f"--bind {options.bind} lets other machines in, and there is no token; make one ({MAKE_TOKEN} > token) "
            "and give it with --token-file token, or say --allow-anonymous"
        )
    choose_runtime(options.runtime)
    _check_port(options.bind, options.port)
    found = check_folder(options.models, options.variant)
    guarded = "with a token" if token else "without a token"
    print(
        f"edge: {found} {options.variant} files in {options.models}, http://{options.bind}:{options.port}, {guarded}",
        flush=True,
    )
    _make_server(options).serve(target_loader=partial(_load, options, token), wrap_loader=False)
    return 0


def _make_server(options: argparse.Namespace) -> Any:
    from granian.constants import Interfaces
    from granian.http import HTTP1Settings
    from granian.server import Server

    class ReloadingServer(Server):
        """SIGHUP goes to the worker, which reloads models; Granian's own way would replace the worker."""

        def signal_handler_reload(self, *_: object) -> None:
            for worker in self.wrks:
                os.kill(worker.inner.pid, signal.SIGHUP)

    return ReloadingServer(
        "edge.app",
        address=options.bind,
        port=options.port,
        interface=Interfaces.WSGI,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_WAIT_MS, max_buffer_size=HEADER_LIMIT),
        websockets=False,
        workers=1,
        blocking_threads=REQUEST_THREADS,
        workers_kill_timeout=5,  # seconds
        process_name=None,
    )


def _load(options: argparse.Namespace, token: bytes | None) -> Flask:
    """In the worker process: load the models, make the application."""
    from edge.app import create_app
    from edge.watcher import Watcher

    if sys.platform == "linux":  # a worker must not outlive its parent and keep the port
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        library = ModelLibrary(
            options.models,
            variant=options.variant,
            threads=options.threads,
            interpreters=options.interpreters,
            runtime=options.runtime,
            delegate=options.delegate,
        )
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)
    for broken in library.problems():
        print(f"edge: left out: {broken}", file=sys.stderr, flush=True)
    watcher = Watcher(library, seconds=options.poll)
    signal.signal(signal.SIGHUP, lambda *_: watcher.wake())
    watcher.start()
    return create_app(library, token=token, body_limit=options.max_body)


def _is_loopback(bind: str) -> bool:
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def _check_numbers(options: argparse.Namespace) -> None:
    if options.threads < 1:
        raise SettingError(f"--threads {options.threads} is no number of threads; use 1 or more")
    if options.interpreters < 1:
        raise SettingError(f"--interpreters {options.interpreters} is no number of interpreters; use 1 or more")
    if not 0 <= options.poll < float("inf"):
        raise SettingError(f"--poll {options.poll} is no number of seconds; use 0 or more")
    if options.max_body < 1:
        raise SettingError(f"--max-body {options.max_body} is no number of bytes; use 1 or more")


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
