"""Connections of a load generator: HTTP/1.1 with one request at a time, and gRPC over HTTP/2 with several.

They write bytes that were made beforehand and look at each answer's status and body, because a load generator shares
the machine with the server: a full client costs more CPU per request than the server that it measures.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

import hpack

if TYPE_CHECKING:
    from collections.abc import Callable

    # (error or None, body): the error names the HTTP status, the gRPC status, or what became of the connection.
    Done = Callable[[str | None, bytes], None]


class HttpConnection(asyncio.Protocol):
    """Keep-alive HTTP/1.1. ``send`` takes a whole request; answers need a Content-Length."""

    capacity = 1

    def __init__(self) -> None:
        self._buffer = b""
        self._done: Done | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: bytes, done: Done) -> None:
        self._done = done
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = self._buffer[:head].lower()
        at = headers.find(b"content-length:")
        length = int(headers[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        status, body = headers[9:12], self._buffer[head + 4 : head + 4 + length]
        self._buffer = self._buffer[head + 4 + length :]
        done, self._done = self._done, None
        if done is not None:
            done(None if status == b"200" else f"HTTP {status.decode()}: {body[:200].decode(errors='replace')}", body)

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None:
            self._done(f"connection closed: {error}", b"")

    def close(self) -> None:
        self._done = None
        self._transport.close()


def http_request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


# HTTP/2 frame types and flags (RFC 9113, section 6).
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
_LARGEST = (1 << 31) - 1


class GrpcConnection(asyncio.Protocol):
    """Unary gRPC calls. ``send`` takes a serialized message with its gRPC prefix (see ``grpc_frame``).

    The server may keep no header table (SETTINGS_HEADER_TABLE_SIZE 0), so a header block always means the same and is
    decoded once. The client's windows are as large as can be; the server's are not looked at, because a few requests
    of some hundred bytes in flight do not fill the smallest (64 kB).
    """

    capacity = 4

    def __init__(self, path: str) -> None:
        fields = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
                  ("content-type", "application/grpc"), ("te", "trailers"))  # fmt: skip
        self._head = header_block(*fields)
        self._stream = 1
        self._calls: dict[int, tuple[Done, list[bytes]]] = {}
        self._blocks: dict[bytes, dict[str, str]] = {}
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        settings = struct.pack("!HIHIHI", 1, 0, 2, 0, 4, _LARGEST)  # header table, push, window of a stream
        transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(SETTINGS, 0, 0, settings)
            + frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", _LARGEST - 65535))
        )

    def send(self, message: bytes, done: Done) -> None:
        stream, self._stream = self._stream, self._stream + 2
        self._calls[stream] = (done, [])
        self._transport.write(
            frame(HEADERS, END_HEADERS, stream, self._head) + frame(DATA, END_STREAM, stream, message)
        )

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        position, end = 0, len(buffer)
        while end - position >= 9:
            length = int.from_bytes(buffer[position : position + 3], "big")
            if end - position < 9 + length:
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            stream = int.from_bytes(buffer[position + 5 : position + 9], "big")
            self._frame_received(kind, flags, stream, buffer[position + 9 : position + 9 + length])
            position += 9 + length
        self._buffer = buffer[position:]

    def _frame_received(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._calls[stream][1].append(payload)
            if flags & END_STREAM:
                self._finish(stream, "the answer ended without trailers")
        elif kind == HEADERS and flags & END_STREAM:
            trailers = self._blocks.get(payload)
            if trailers is None:
                decoded = hpack.Decoder().decode(payload)
                trailers = self._blocks[payload] = {str(name): str(value) for name, value in decoded}
            status = trailers.get("grpc-status")
            self._finish(stream, None if status == "0" else f"grpc-status {status}: {trailers.get('grpc-message', '')}")
        elif kind == SETTINGS and not flags & ACK:
            self._transport.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._transport.write(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            self._finish(stream, f"stream reset with code {int.from_bytes(payload, 'big')}")
        elif kind == GOAWAY:
            self._transport.close()

    def _finish(self, stream: int, error: str | None) -> None:
        done, parts = self._calls.pop(stream)
        done(error, b"".join(parts)[5:])

    def connection_lost(self, error: Exception | None) -> None:
        calls, self._calls = list(self._calls.values()), {}
        for done, _ in calls:
            done(f"connection closed: {error}", b"")

    def close(self) -> None:
        self._calls.clear()
        self._transport.close()


def header_block(*fields: tuple[str, str]) -> bytes:
    """Literal header fields without indexing (RFC 7541, section 6.2.2), names and values below 128 bytes."""
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields
    )


def grpc_frame(message: bytes) -> bytes:
    """A message with gRPC's prefix: not compressed, its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Connections:
    """Some connections to one server: hands each request to one with room, or keeps it until there is."""

    def __init__(self, connections: list[HttpConnection] | list[GrpcConnection]) -> None:
        self._all = connections
        self._free: deque = deque(connection for connection in connections for _ in range(connection.capacity))
        self._waiting: deque[tuple[bytes, Done]] = deque()

    def send(self, request: bytes, done: Done) -> None:
        if not self._free:
            self._waiting.append((request, done))
            return
        connection = self._free.popleft()

        def finished(error: str | None, body: bytes) -> None:
            self._free.append(connection)
            if self._waiting:
                self.send(*self._waiting.popleft())
            done(error, body)

        connection.send(request, finished)

    def close(self) -> None:
        for connection in self._all:
            connection.close()


async def connect(protocol: Callable[[], Any], port: int, count: int) -> Connections:
    loop = asyncio.get_running_loop()
    return Connections([(await loop.create_connection(protocol, "127.0.0.1", port))[1] for _ in range(count)])
