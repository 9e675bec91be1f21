"""gRPC as an ASGI application: HTTP/2, framing and trailers by Envoy, messages by protobuf.

Frames: one byte "compressed", four bytes length, the message (gRPC over HTTP/2, Length-Prefixed-Message). An exception
must not leave the application: the client would see an answer without a message instead of an error.
"""

from __future__ import annotations

import gzip
import sys
import traceback
import zlib
from typing import TYPE_CHECKING, Any

from model_server.errors import Code, ServingError
from model_server.grpc_methods import methods

if TYPE_CHECKING:
    from collections.abc import Callable

    from model_server.core import Core

_OK_HEADERS = [(b"content-type", b"application/grpc")]
_OK_TRAILERS = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False}
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# TF Serving cuts error details here, because they travel in headers.
MAX_DETAILS = 1024


class GrpcApplication:
    """``await app(scope, receive, send)``; ``in_flight`` counts the requests that have no answer yet."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.in_flight = 0
        self._methods = methods(core)

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        self.in_flight += 1
        try:
            try:
                answer = await self._answer(scope, receive)
            except ServingError as error:
                await self._send_error(send, error.code, error.message)
                return
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                await self._send_error(send, Code.INTERNAL, f"{type(error).__name__}: {error}")
                return
            if answer is None:
                return
            await send({"type": "http.response.start", "status": 200, "headers": _OK_HEADERS, "trailers": True})
            frame = b"\0" + len(answer).to_bytes(4, "big") + answer
            await send({"type": "http.response.body", "body": frame, "more_body": False})
            await send(_OK_TRAILERS)
        finally:
            self.in_flight -= 1

    async def _answer(self, scope: dict[str, Any], receive: Callable) -> bytes | None:
        refused = self._core.draining  # a request that began before SIGTERM is answered, however late its body comes
        body, timeout, encoding = b"", None, b""
        for key, value in scope["headers"]:
            if key == b"grpc-timeout":
                timeout = _seconds(value)
            elif key == b"grpc-encoding":
                encoding = value
        event = await receive()
        if event.get("more_body"):
            parts = [event.get("body", b"")]
            while event.get("more_body"):
                event = await receive()
                parts.append(event.get("body", b""))
            body = b"".join(parts)
        else:
            body = event.get("body", b"")
        if event["type"] == "http.disconnect":
            return None
        method = self._methods.get(scope["path"])
        if method is None:
            raise ServingError(Code.UNIMPLEMENTED, "")
        if refused:
            raise ServingError(Code.UNAVAILABLE, "the server is shutting down")
        return await method(_message(body, encoding), timeout)

    @staticmethod
    async def _send_error(send: Callable, code: Code, message: str) -> None:
        raw = message.encode("utf-8", "replace")
        if len(raw) > MAX_DETAILS:
            raw = raw[:MAX_DETAILS] + b"...TRUNCATED"
        headers = [*_OK_HEADERS, (b"grpc-status", b"%d" % code), (b"grpc-message", _percent_encoded(raw))]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _message(body: bytes, encoding: bytes) -> bytes:
    """The one message of a unary request."""
    if len(body) < 5 or len(body) != 5 + int.from_bytes(body[1:5], "big"):
        raise ServingError(Code.INTERNAL, f"the request's frame is damaged ({len(body)} bytes)")
    if not body[0]:
        return body[5:]
    try:
        if encoding == b"gzip":
            return gzip.decompress(body[5:])
        if encoding == b"deflate":
            return zlib.decompress(body[5:])
    except (OSError, EOFError, zlib.error):
        raise ServingError(Code.INTERNAL, "the compressed message is damaged") from None
    raise ServingError(Code.UNIMPLEMENTED, f"compression {encoding.decode('latin-1')!r} is not supported")


def _seconds(value: bytes) -> float | None:
    """``grpc-timeout``: up to eight digits and a unit."""
    unit = _UNITS.get(value[-1:])
    return int(value[:-1]) * unit if unit and value[:-1].isdigit() else None


def _percent_encoded(raw: bytes) -> bytes:
    return b"".join(bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in raw)
