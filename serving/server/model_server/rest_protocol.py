"""HTTP/1.1 for REST: uvicorn's protocol with a limit on headers, and on the time that a client may be silent.

A client that holds half a request costs a file descriptor and what it has sent, and not for ever.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

# Request line and headers; Envoy's limit for gRPC is about the same.
MAX_HEAD_BYTES = 64 << 10
_REQUEST_LINE = re.compile(rb"[A-Z]{3,20} \S+ HTTP/1\.[01]\r?\n")
_ANSWERS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
}


def rest_protocol(idle_seconds: float) -> type[HttpToolsProtocol]:
    """The protocol class, whose connections are closed when they owe something and are silent for ``idle_seconds``."""

    class RestProtocol(_RestProtocol):
        idle = idle_seconds

    return RestProtocol


class _RestProtocol(HttpToolsProtocol):
    idle: float

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head = 0  # bytes of a head that is not complete yet
        self._heard = False  # something came since the last look
        self._silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._silence = self.loop.call_later(self.idle, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._silence is not None:
            self._silence.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._heard = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as the plain request that it is
        except httptools.HttpParserError as error:
            unknown = isinstance(error, httptools.HttpParserInvalidMethodError) and _REQUEST_LINE.search(data)
            self._refuse(501 if unknown else 400, "unknown method" if unknown else "this is no HTTP request")
            return
        # uvicorn sets the method when the head is complete.
        if self.scope is None or "method" not in self.scope:
            self._head += len(data)
            if self._head > MAX_HEAD_BYTES:
                self._refuse(431, f"the headers are larger than {MAX_HEAD_BYTES} bytes")
        elif self._head:
            self._head = 0

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        cycle = self.cycle
        half_body = cycle is not None and cycle.more_body and not cycle.response_complete and not self.pipeline
        if self._heard or not (self._head or half_body or cycle is None):
            self._heard = False
            self._silence = self.loop.call_later(self.idle, self._look)
        elif self._head or half_body:
            self._refuse(408, f"nothing came for {self.idle:g} s in the middle of a request")
        else:
            self.transport.close()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer with an error, unless an answer has begun, and close."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = b'{\n    "error": "' + reason.encode() + b'"\n}'
            head = (
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head % (status, _ANSWERS[status], len(body)) + body)
        self.transport.close()
