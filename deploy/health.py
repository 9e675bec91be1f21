"""Whether a service is healthy: its ports are open, its address answers, its models are AVAILABLE."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from models.errors import DeployError

if TYPE_CHECKING:
    from deploy.services import Service

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


def trouble(service: Service, *, timeout: float = 2) -> str:
    """Why ``service`` is not healthy yet, or an empty text when it is. ``timeout`` in seconds for each question."""
    for name, number in service.ports.items():
        try:
            socket.create_connection(("127.0.0.1", number), timeout=timeout).close()
        except OSError:
            return f"nothing listens on port {number} ({name})"
    for address in service.health_addresses():
        try:
            with _direct.open(address, timeout=timeout) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            return f"{address} answers {error.code} {error.read(300).decode(errors='replace').strip()}"
        except (OSError, http.client.HTTPException) as error:
            return f"{address} does not answer ({error})"
        if service.healthy and (problem := _unavailable(body, service.healthy)):
            return f"{address}: {problem}"
    return ""


def reload(service: Service, *, timeout: float = 60) -> list[str]:
    """Have a service take over new files; what it changed, in sentences. Raises DeployError when it does not answer."""
    if not service.reload:
        return []
    try:
        with _direct.open(urllib.request.Request(service.reload, method="POST"), timeout=timeout) as response:
            return json.load(response)["changes"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise DeployError(f"{service.name} does not reload: {service.reload} answers {error}; see its log") from error


def _unavailable(body: bytes, wanted: str) -> str:
    """What a GetModelStatus answer still waits for (TF Serving REST API, model status)."""
    try:
        statuses = json.loads(body)["model_version_status"]
        states = {str(s["version"]): s["state"] for s in statuses if s["state"] != "END"}
    except (ValueError, KeyError, TypeError):
        return f"no model status: {body[:200]!r}"
    waiting = [f"version {version} is {state}" for version, state in states.items() if state != wanted]
    return ", ".join(waiting) if states else "no version is loaded"
