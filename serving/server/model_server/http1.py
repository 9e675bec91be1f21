"""HTTP/1.1 for REST: an asyncio protocol on httptools (llhttp, Node.js' parser), with nothing between it and the answers.

A request that can be answered at once is answered where its last byte is read, without a task: an ASGI server
spends more on a request than a small model does (uvicorn 13 µs of 58). A connection answers one request after the other; what a client sends
meanwhile waits. A client that holds half a request costs a file descriptor and what it has sent, and not for ever.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from http import HTTPMethod, HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
import uvloop

from model_server import json_answers
from model_server.connection import tidy_after, too_large
from model_server.errors import StartError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

    Headers = list[tuple[bytes, bytes]]
    Answer = tuple[int, Headers, bytes]
    # (scope, body) → status, headers, body. ``scope`` has ASGI's method, raw_path, query_string and headers.
    Application = Callable[[dict[str, Any], bytes], Coroutine[Any, Any, Answer]]

# Request line and headers, and what stands around a chunked body; Envoy's limit for gRPC is about the same.
MAX_HEAD_BYTES = 64 << 10
# Pipelined requests that may wait on a connection; beyond it nothing more is read from it.
MAX_WAITING = 16
# A connection without a request, or whose client does not read on, is closed after this many seconds.
KEEP_ALIVE = 75.0
LOOK_EVERY = 0.5
BACKLOG = 2048
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_STATUS_LINES[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{3,20}) \S+ HTTP/1\.[01]\r?\n")
_METHODS = {method.value.encode() for method in HTTPMethod}
_JSON = (b"content-type", b"application/json")
_LONG_HEAD = f"the headers are larger than {MAX_HEAD_BYTES} bytes"


class Http1(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Http1Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[dict[str, Any], bytes, bool]] = deque()
        self._task: asyncio.Task | None = None
        self._stuck = False  # the client does not read its answers
        self._unread = 0  # bytes of answers that the client had not read at the last look
        self._refusal: Answer | None = None  # what follows the answers in the making; nothing more is read
        self._last = False  # close after the answer in the making
        self._heard = self._loop.time()
        self._begun = False  # part of a request has come
        self._in_head = False
        self._head = 0  # bytes that came since the last head was complete, or a piece of the body
        self._headers: Headers = []
        self._target = b""
        self._body: bytes | bytearray = b""

    # ------------------------------------------------------------ what the event loop calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._stuck = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stuck = False
        if len(self._waiting) < MAX_WAITING:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        self._heard = self._loop.time()
        self._head += len(data)
        while data:
            try:
                self._parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:  # the request was answered as the plain one that it is
                self._parser, data = httptools.HttpRequestParser(self), data[upgrade.args[0] :]
            except httptools.HttpParserCallbackError:
                return  # refused while it was read
            except httptools.HttpParserError as error:
                # Requests of known methods may have come before, in the same piece.
                unknown = isinstance(error, httptools.HttpParserInvalidMethodError) and any(
                    line[1] not in _METHODS for line in _REQUEST_LINE.finditer(data)
                )
                self._refuse(501 if unknown else 400, "unknown method" if unknown else "this is no HTTP request")
                return
        if self._begun and self._head > MAX_HEAD_BYTES:
            self._refuse(431, _LONG_HEAD)

    # ------------------------------------------------------------ what the parser calls

    def on_message_begin(self) -> None:
        self._begun = self._in_head = True
        self._target, self._headers, self._body = b"", [], b""

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it follows a chunked body, and nothing here asks for that
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head > MAX_HEAD_BYTES and sum(len(n) + len(v) for n, v in self._headers) > MAX_HEAD_BYTES:
            self._refuse(431, _LONG_HEAD)
            raise ValueError  # ends the parser
        self._head = 0
        if self._task is None and dict(self._headers).get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._head = 0
        if not self._body:
            self._body = part
        else:
            # One growing array: a list of pieces takes fifty times their size where a client sends bytes one by one.
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part
        if len(self._body) > self._server.max_bytes:
            self._refuse(413, too_large(self._server.max_bytes).message)
            raise ValueError

    def on_message_complete(self) -> None:
        self._begun = False
        self._head = 0
        path, _, query = self._target.partition(b"?")
        scope = {
            "method": self._parser.get_method().decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": self._headers,
        }
        body, self._body = bytes(self._body), b""
        keep = self._parser.should_keep_alive()
        if keep and self._parser.get_http_version() == "1.0":
            keep = False  # a client of that time closes, unless it is told otherwise
        if self._task is None:
            self._answer(scope, body, keep)
        else:
            self._waiting.append((scope, body, keep))
            if len(self._waiting) >= MAX_WAITING:
                self._transport.pause_reading()

    # ------------------------------------------------------------ answers

    def _answer(self, scope: dict[str, Any], body: bytes, keep: bool) -> None:
        coroutine = self._server.application(scope, body)
        try:
            coroutine.send(None)
        except StopIteration as done:
            self._write(done.value, keep, head=scope["method"] == "HEAD")
            tidy_after(len(body))
            return
        # It waits for something. The first thing was a bare turn of the loop (asyncio.sleep(0)), so a task can go on.
        self._task = self._loop.create_task(coroutine)
        size = len(body)
        self._task.add_done_callback(lambda task: self._answered(task, size, keep))

    def _answered(self, task: asyncio.Task, size: int, keep: bool) -> None:
        self._task = None
        tidy_after(size)
        if task.cancelled() or self._transport.is_closing():
            return
        self._write(task.result(), keep)
        while self._waiting and self._task is None and not self._transport.is_closing():
            self._answer(*self._waiting.popleft())
        if self._refusal is not None and self._task is None:
            self._write(self._refusal, keep=False)
        if not self._stuck and len(self._waiting) < MAX_WAITING and not self._transport.is_closing():
            self._transport.resume_reading()

    def _write(self, answer: Answer, keep: bool, *, head: bool = False) -> None:
        if self._transport.is_closing():
            return
        status, headers, body = answer
        keep = keep and not self._last
        lines = b"".join([b"%s: %s\r\n" % header for header in headers])
        ending = b"\r\n" if keep else b"connection: close\r\n\r\n"
        start = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        self._transport.write(
            b"%s%scontent-length: %d\r\n%s%s" % (start, lines, len(body), ending, b"" if head else body)
        )
        if not keep:
            self._transport.close()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer with an error, after the answers in the making, and close."""
        refusal = status, [_JSON], json_answers.error(reason)
        if self._task is not None:
            self._refusal = refusal
        else:
            self._write(refusal, keep=False)

    # ------------------------------------------------------------ what the server calls

    def look(self, now: float, idle: float) -> None:
        """Close a connection that has been silent for too long: in a request, between two, or with an answer unread."""
        unread = self._transport.get_write_buffer_size()
        if self._task is not None or unread != self._unread:
            self._heard, self._unread = now, unread
            return
        silent = now - self._heard
        if self._stuck or self._transport.is_closing():
            if silent > KEEP_ALIVE:
                self._transport.abort()
        elif self._begun and silent > idle:
            self._refuse(408, f"nothing came for {idle:g} s in the middle of a request")
        elif not self._begun and silent > KEEP_ALIVE:
            self._transport.close()

    def finish(self) -> None:
        """Close after the request that is in the making or on its way; at once without one."""
        self._last = True
        if self._task is None and not self._begun:
            self._transport.close()


class Http1Server:
    """The listener, on a thread and an event loop of its own. ``idle`` in seconds, ``max_bytes`` of a body."""

    def __init__(self, application: Application, sockets: list[socket.socket], *, idle: float, max_bytes: int) -> None:
        self.application, self.max_bytes = application, max_bytes
        self.connections: set[Http1] = set()
        self._sockets, self._idle = sockets, idle
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)

    def start(self) -> None:
        """Raises StartError where another process has begun to listen: two may bind a port."""
        try:
            for socket in self._sockets:  # uvloop does not say that it cannot
                socket.listen(BACKLOG)
        except OSError as error:
            raise StartError(
                f"REST cannot listen: {error.strerror}; stop the other process or choose another --rest_api_port="
            ) from None
        self._thread.start()
        self._started.wait()

    def stop(self, seconds: float) -> None:
        """Answer what is in flight, then close."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(seconds)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        listeners = [
            await self._loop.create_server(lambda: Http1(self), sock=socket, backlog=BACKLOG)
            for socket in self._sockets
        ]
        self._started.set()
        self._look()
        await self._stopping.wait()
        for listener in listeners:
            listener.close()
        while self.connections:
            for connection in list(self.connections):
                connection.finish()
            await asyncio.sleep(0.005)

    def _look(self) -> None:
        now = self._loop.time()
        for connection in tuple(self.connections):
            connection.look(now, self._idle)
        self._loop.call_later(LOOK_EVERY, self._look)
