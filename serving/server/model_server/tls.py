"""TLS for gRPC by ``--ssl_config_file``: TF Serving's SSLConfig in text format → Envoy's transport socket.

    server_key: "-----BEGIN PRIVATE KEY-----\\n…"   server_cert: "-----BEGIN CERTIFICATE-----\\n…"
    custom_ca: "…"   client_verify: true           # with these, only clients with a certificate of that CA get through

The key reaches Envoy in an environment variable: a command line can be read by every user of the machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any, NamedTuple

from model_server.errors import StartError
from model_server.protos import declare
from model_server.text_config import read_config

SSL_CONFIG = declare("SSLConfig", server_key="string", server_cert="string", custom_ca="string", client_verify="bool")

_KEY, _CERTIFICATE, _CA = "MODEL_SERVER_TLS_KEY", "MODEL_SERVER_TLS_CERTIFICATE", "MODEL_SERVER_TLS_CA"
# A connection that has not finished its handshake by then is closed.
HANDSHAKE_SECONDS = 15


class Tls(NamedTuple):
    """Envoy's ``transport_socket``, and the variables that Envoy must find in its environment."""

    socket: dict[str, Any]
    environment: dict[str, str]

    def apply(self, listener: dict[str, Any]) -> None:
        for chain in listener["filter_chains"]:
            chain["transport_socket"] = self.socket
            chain["transport_socket_connect_timeout"] = f"{HANDSHAKE_SECONDS}s"


def read_tls(file: str) -> Tls | None:
    """The SSLConfig in ``file``; None without a file. Raises StartError: unreadable, or a key or certificate is missing."""
    if not file:
        return None
    config = read_config("ssl_config_file", file, SSL_CONFIG(), example='server_key: "…" with the text of a PEM file')
    needed = ["server_key", "server_cert"] + (["custom_ca"] if config.client_verify else [])
    for name in needed:
        if not getattr(config, name):
            reason = " because client_verify is true" if name == "custom_ca" else ""
            raise StartError(f'--ssl_config_file={file} has no {name}; add {name}: "…" in PEM format{reason}')
    context: dict[str, Any] = {
        "alpn_protocols": ["h2"],
        "tls_certificates": [
            {
                "private_key": {"environment_variable": _KEY},
                "certificate_chain": {"environment_variable": _CERTIFICATE},
            }
        ],
    }
    environment = {_KEY: config.server_key, _CERTIFICATE: config.server_cert}
    if config.client_verify:
        context["validation_context"] = {"trusted_ca": {"environment_variable": _CA}}
        environment[_CA] = config.custom_ca
    socket = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": context,
            "require_client_certificate": config.client_verify,
        },
    }
    return Tls(socket, environment)


def check_tls(tls: Tls, file: str, envoy: str) -> None:
    """Have Envoy itself load the keys (40 ms), since it says no more than a log line once it is started.

    Raises StartError: no PEM, key and certificate that do not belong together, a key that is too short.
    """
    filters = [
        {
            "name": "envoy.filters.network.direct_response",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config"},
        }
    ]
    listener: dict[str, Any] = {
        "name": "check",
        "address": {"pipe": {"path": "@never-opened"}},
        "filter_chains": [{"filters": filters}],
    }
    tls.apply(listener)
    command = [envoy, "--mode", "validate", "--log-level", "error"]
    command += ["--config-yaml", json.dumps({"static_resources": {"listeners": [listener]}})]
    done = subprocess.run(command, env={**os.environ, **tls.environment}, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise StartError(f"--ssl_config_file={file} cannot be used: {_reason(done.stderr)}; correct its PEM texts")


def _reason(log: str) -> str:
    if "KEY_VALUES_MISMATCH" in log:
        return "server_key and server_cert do not belong together"
    text = re.sub(r"^\[.*?error initializing configuration '[^']*': ", "", " ".join(log.split()))
    for found, meant in (
        ("private key", "server_key"),
        ("trusted CA certificates", "custom_ca"),
        ("certificate chain", "server_cert"),
    ):
        text = text.replace(found, meant)
    return text.replace(" from <inline>", "").replace("NO_START_LINE", "it is not in PEM format")
