"""Envoy's configuration for gRPC: pyvoy's, with our addresses and limits, and TLS where it is asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from model_server.errors import StartError
from model_server.listening import addresses

if TYPE_CHECKING:
    from model_server.flags import Options
    from model_server.tls import Tls

# HTTP/2 windows, bytes: a large tensor should not wait for a window update every 64 kB.
WINDOW = 16 << 20
RELEASED_PER_SECOND = 128 << 20
INT_MAX = (1 << 31) - 1  # for ever, in gRPC
# --grpc_channel_arguments that mean something to Envoy; the rest tune grpcio, which is not here.
CHANNEL_ARGUMENTS = {
    "grpc.max_concurrent_streams",
    "grpc.max_connection_age_ms",
    "grpc.max_connection_idle_ms",
    "grpc.keepalive_time_ms",
    "grpc.keepalive_timeout_ms",
}


def bootstrap(options: Options, tls: Tls | None) -> dict[str, Any]:
    """The whole configuration. Raises StartError for a channel argument that is no number."""
    from pyvoy import PyvoyServer

    first, *more = addresses(options.bind_address)
    config = PyvoyServer(
        "model_server.app:application", address=first, port=options.port, lifespan=False, worker_threads=1
    ).get_envoy_config()
    config.pop("admin")
    # Envoy's malloc serves Python too. What a large request has freed goes back to the system at this pace.
    config["memory_allocator_manager"] = {"bytes_to_release": RELEASED_PER_SECOND, "memory_release_interval": "1s"}
    (listener,) = config["static_resources"]["listeners"]
    listener["enable_reuse_port"] = False  # with it, a second server on the port would start and take half the requests
    listener["additional_addresses"] = [
        {"address": {"socket_address": {"address": address, "port_value": options.port}}} for address in more
    ]
    if options.grpc_socket_path:
        listener["additional_addresses"].append({"address": {"pipe": {"path": options.grpc_socket_path}}})
    if tls is not None:
        tls.apply(listener)
    manager = listener["filter_chains"][0]["filters"][-1]["typed_config"]
    manager["http2_protocol_options"] = {
        "initial_stream_window_size": WINDOW,
        "initial_connection_window_size": WINDOW,
    }
    manager["stream_idle_timeout"] = "0s"  # a slow model may answer after Envoy's five minutes
    manager["request_headers_timeout"] = f"{options.request_idle_seconds:.3f}s"
    _apply(channel_arguments(options.grpc_channel_arguments), manager)
    return config


def channel_arguments(text: str) -> dict[str, int]:
    """``grpc.max_connection_age_ms=2000,…``: those that have an effect here. Raises StartError."""
    found = {}
    for argument in filter(None, text.split(",")):
        name, _, value = argument.partition("=")
        if name in CHANNEL_ARGUMENTS:
            if not re.fullmatch("[0-9]{1,10}", value) or int(value) > INT_MAX:
                raise StartError(f"--grpc_channel_arguments: {name}={value} is no number; write {name}=1000")
            found[name] = int(value)
    return found


def _apply(arguments: dict[str, int], manager: dict[str, Any]) -> None:
    common: dict[str, Any] = {}
    for name, value in arguments.items():
        match name:
            case "grpc.max_concurrent_streams":
                manager["http2_protocol_options"]["max_concurrent_streams"] = max(value, 1)
            case "grpc.max_connection_age_ms":
                common["max_connection_duration"] = f"{value / 1000:.3f}s"
            case "grpc.max_connection_idle_ms":
                common["idle_timeout"] = f"{value / 1000:.3f}s"
            case "grpc.keepalive_time_ms":
                manager["http2_protocol_options"]["connection_keepalive"] = {
                    "interval": f"{value / 1000:.3f}s",
                    "timeout": f"{arguments.get('grpc.keepalive_timeout_ms', 20_000) / 1000:.3f}s",
                }
    if common:
        manager["common_http_protocol_options"] = common
