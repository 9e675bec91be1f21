"""gRPC as an ASGI application: HTTP/2, TLS and trailers by Envoy, messages by protobuf.

An exception must not leave the application: the client would see an answer without a message instead of an error.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from model_server.connection import Leaving, Limits, read_body, tidy_after
from model_server.errors import Code, ServingError
from model_server.grpc_frames import Requests, framed, seconds, status_headers, unframed
from model_server.grpc_methods import methods
from model_server.health import watch
from model_server.reflection import Reflection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from model_server.core import Core

    Stream = Callable[[Requests], AsyncIterator[bytes]]

_HEADERS = [(b"content-type", b"application/grpc")]
_START = {"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True}
_TRAILERS = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False}


class GrpcApplication:
    """``await app(scope, receive, send)``; ``in_flight`` counts the unary requests that have no answer yet, which
    ``methods`` answer.
    """

    def __init__(self, core: Core) -> None:
        options = core.options
        self._core = core
        self.in_flight = 0
        self._limits = Limits(min(options.max_request_bytes, (1 << 31) - 1), options.request_idle_seconds)
        self.methods = methods(core)
        self._streams: dict[str, Stream] = {}
        if options.enable_grpc_healthcheck_service:
            self._streams["/grpc.health.v1.Health/Watch"] = watch(core)
        if options.enable_grpc_reflection:
            reflection = Reflection([*self.methods, *self._streams])
            self._streams |= reflection.streams()

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        stream = self._streams.get(scope["path"])
        if stream is not None:
            await self._stream(stream, scope, receive, send)
            return
        self.in_flight += 1
        try:
            try:
                answer = await self._answer(scope, receive)
            except ServingError as error:
                if error.code is Code.UNIMPLEMENTED and not _is_grpc(scope):
                    await _send_not_grpc(send)
                else:
                    await _send_error(send, error.code, error.message)
                return
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                await _send_error(send, Code.INTERNAL, f"{type(error).__name__}: {error}")
                return
            if answer is None:
                return
            await send(_START)
            await send({"type": "http.response.body", "body": framed(answer), "more_body": False})
            await send(_TRAILERS)
        except Exception as error:
            _unless_client_left(error)
        finally:
            self.in_flight -= 1

    async def _answer(self, scope: dict[str, Any], receive: Callable) -> bytes | None:
        """The answer's message, or None when the client has gone. Raises ServingError."""
        refused = self._core.draining  # a request that began before SIGTERM is answered, however late its body comes
        timeout, encoding = None, b""
        for key, value in scope["headers"]:
            if key == b"grpc-timeout":
                timeout = seconds(value)
            elif key == b"grpc-encoding":
                encoding = value
        start = time.monotonic()
        body = await read_body(receive, self._limits, timeout)
        if body is None:
            return None
        method = self.methods.get(scope["path"])
        if method is None:
            raise ServingError(Code.UNIMPLEMENTED, "")
        if refused:
            raise ServingError(Code.UNAVAILABLE, "the server is shutting down")
        if timeout is not None:
            timeout = max(timeout - (time.monotonic() - start), 0.0)
        message = unframed(body, encoding, self._limits.size)
        leaving = Leaving(receive)
        try:
            return await method(message, timeout)
        except asyncio.CancelledError:
            if leaving.gone:
                return None
            raise
        finally:
            leaving.stop()
            tidy_after(len(message))

    async def _stream(self, stream: Stream, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        """A method whose requests and answers are streams: each answer goes out when it is there."""
        encoding = dict(scope["headers"]).get(b"grpc-encoding", b"")
        begun, trailers = False, _TRAILERS
        try:
            try:
                async for answer in stream(Requests(receive, encoding, self._limits)):
                    if not begun:
                        await send(_START)
                        begun = True
                    await send({"type": "http.response.body", "body": framed(answer), "more_body": True})
            except ServingError as error:
                if not begun:
                    await _send_error(send, error.code, error.message)
                    return
                trailers = {**_TRAILERS, "headers": status_headers(error.code, error.message)}
            if not begun:
                await send(_START)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            await send(trailers)
        except Exception as error:
            _unless_client_left(error)


def _unless_client_left(error: Exception) -> None:
    """pyvoy's send() raises ClientDisconnectedError, which it does not export; nothing else is expected here."""
    if type(error).__name__ != "ClientDisconnectedError":
        traceback.print_exception(error, file=sys.stderr)


def _is_grpc(scope: dict[str, Any]) -> bool:
    return dict(scope["headers"]).get(b"content-type", b"").startswith(b"application/grpc")


async def _send_not_grpc(send: Callable) -> None:
    """For a browser or curl on the wrong port."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 415, "headers": headers})
    text = b"This port speaks gRPC; REST has a port of its own, --rest_api_port.\n"
    await send({"type": "http.response.body", "body": text, "more_body": False})


async def _send_error(send: Callable, code: Code, message: str) -> None:
    headers = [*_HEADERS, *status_headers(code, message)]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
