"""The application that Envoy imports: loads the models, then opens REST, then returns so that Envoy opens gRPC.

Everything is one process: Envoy's threads, one Python thread for gRPC, one for REST, one that looks for new versions,
and one that waits for SIGTERM.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from model_server.batching import Batcher
from model_server.batching_parameters import batch_threads, read_common
from model_server.core import Core
from model_server.errors import StartError
from model_server.flags import Options
from model_server.grpc import GrpcApplication
from model_server.http1 import Http1Server
from model_server.listening import addresses, bind
from model_server.manager import Manager
from model_server.model_config import read_models
from model_server.monitoring import Monitor
from model_server.monitoring_config import read_monitoring
from model_server.observe import ObservedCore, ObservedRest, Observers, observed
from model_server.reload import poll_config_file
from model_server.request_log import RequestLog
from model_server.rest import RestApplication

LOG_SECONDS = 5.0  # for the requests that are still to be logged when the server ends
OPTIONS_VARIABLE = "MODEL_SERVER_OPTIONS"  # the flags' values as JSON, set by model_server.launch


def start() -> GrpcApplication:
    gc.freeze()  # what is imported stays for good: no collection need look at it
    options = Options({**Options().values, **json.loads(os.environ[OPTIONS_VARIABLE])})
    manager = Manager(read_models(options), options)
    in_flight = {"GRPC": 0, "REST": 0}
    monitoring = read_monitoring(options) if options.rest_api_port else ""
    monitor = manager.monitor = Monitor(monitoring, manager, in_flight) if monitoring else None
    log = RequestLog(manager, options.request_log_root, monitor) if options.request_log_root else None
    watchers = [found for found in (monitor, log) if found is not None]
    observers = Observers(watchers, in_flight) if watchers else None
    batcher = Batcher(batch_threads(read_common(options)), monitor) if options.enable_batching else None
    core = (ObservedCore if observers else Core)(manager, options, batcher)
    grpc = GrpcApplication(core)
    if observers is not None:
        grpc.methods = observed(grpc.methods, observers)
    rest: list[Http1Server] = []
    threading.Thread(target=_wait_for_signal, args=(core, grpc, rest, log), name="signals", daemon=True).start()
    sockets = []
    if options.rest_api_port:
        sockets = [bind(address, options.rest_api_port, "rest_api_port") for address in addresses(options.bind_address)]
    manager.load_first()
    if sockets:
        application = ObservedRest(core, observers, monitor) if observers else RestApplication(core)
        idle, largest = options.request_idle_seconds, options.max_request_bytes
        server = Http1Server(application, sockets, idle=idle, max_bytes=largest)
        server.start()
        rest.append(server)
        _say(f"REST on {options.bind_address}:{options.rest_api_port}")
    manager.watch()
    if options.model_config_file and options.model_config_file_poll_wait_seconds > 0:
        poll_config_file(manager, Path(options.model_config_file), options.model_config_file_poll_wait_seconds)
    _say(f"gRPC on {options.bind_address}:{options.port}")
    return grpc


def _wait_for_signal(core: Core, grpc: GrpcApplication, rest: list[Http1Server], log: RequestLog | None) -> None:
    """SIGTERM and SIGINT are blocked in every thread (model_server.launch), so Envoy does not act on them; this does."""
    received = signal.sigwait({signal.SIGTERM, signal.SIGINT})
    _say(f"{signal.Signals(received).name}: no new requests; those in flight get {core.options.drain_seconds:g} s")
    core.draining = True
    core.manager.stop()
    deadline = time.monotonic() + core.options.drain_seconds
    for server in rest:
        server.stop(core.options.drain_seconds)
    while grpc.in_flight and time.monotonic() < deadline:
        time.sleep(0.005)
    if log is not None:
        log.close(LOG_SECONDS)
    time.sleep(0.02)  # an answer that was just sent passes Envoy's buffers
    if core.options.grpc_socket_path:
        Path(core.options.grpc_socket_path).unlink(missing_ok=True)
    os._exit(0)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _start_or_leave() -> GrpcApplication:
    try:
        return start()
    except StartError as error:
        _say(f"error: {error}")
    except BaseException as error:
        import traceback

        traceback.print_exc(file=sys.stderr)
        _say(f"error: {type(error).__name__}: {error}")
    os._exit(1)


application = _start_or_leave()
