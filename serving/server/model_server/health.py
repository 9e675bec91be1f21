"""grpc.health.v1.Health (--enable_grpc_healthcheck_service): ``{1: service name}`` → ``{1: status}``.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from model_server.errors import Code, ServingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from model_server.core import Core
    from model_server.grpc_frames import Requests

SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
# The names that TF Serving registers; the empty one is the server as a whole.
SERVICES = {b"", b"ModelService", b"PredictionService"}
# Seconds between two looks of a Watch at whether the server still serves and the client is still there.
WATCH_EVERY = 0.2


def check(core: Core) -> Callable[[bytes, float | None], Awaitable[bytes]]:
    async def answer(body: bytes, timeout: float | None) -> bytes:
        if _service(body) not in SERVICES:
            raise ServingError(Code.NOT_FOUND, "")
        return _status(core, body)

    return answer


def watch(core: Core) -> Callable[[Requests], AsyncIterator[bytes]]:
    async def answers(requests: Requests) -> AsyncIterator[bytes]:
        body, last = b"", b""
        async for message in requests:
            body = message
        while not await requests.gone():
            status = _status(core, body)
            if status != last:
                yield status
                last = status
            await asyncio.sleep(WATCH_EVERY)

    return answers


def _status(core: Core, body: bytes) -> bytes:
    if _service(body) not in SERVICES:
        return SERVICE_UNKNOWN
    return NOT_SERVING if core.draining else SERVING


def _service(body: bytes) -> bytes:
    """The one field, a string; its length fits one byte for every service that there is."""
    return body[2:] if body[:1] == b"\x0a" else b""
