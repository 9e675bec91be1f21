"""What the generator itself costs: requests to servers that do nothing, on loopback, in the worker's own process.

The figure is the floor under every latency measured with that protocol. It is printed beside them and subtracted from none.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from gevent.server import StreamServer

from loadtest.connections import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
    frame,
    grpc_frame,
    header_block,
)
from loadtest.questions import GRPC_PATH

if TYPE_CHECKING:
    from loadtest.questions import Question
    from loadtest.users import AskingUser

REQUESTS, UNCOUNTED = 100, 20
HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
PREFACE_BYTES = 24  # of HTTP/2's client (RFC 9113, section 3.4)
_known: dict[str, float] = {}


def overhead_us(user_class: type[AskingUser], environment: Any, question: Question) -> float:
    """The median of a request to nothing by such a user, µs; measured once in a process."""
    if user_class.target not in _known:
        answer = _grpc if question.path == GRPC_PATH else partial(_http, request_bytes=len(question.request))
        server = StreamServer(("127.0.0.1", 0), answer)
        server.start()
        user = user_class(environment)
        user.address = f"127.0.0.1:{server.server_port}"
        try:
            _known[user_class.target] = statistics.median(_times(user, question)) * 1e6
        finally:
            user.close()
            server.stop()
    return _known[user_class.target]


def _times(user: AskingUser, question: Question) -> list[float]:
    seconds = []
    for number in range(UNCOUNTED + REQUESTS):
        start = time.perf_counter()
        error, _ = user.ask(question)
        assert error is None, error
        if number >= UNCOUNTED:
            seconds.append(time.perf_counter() - start)
    return seconds


def _http(connection: Any, _: Any, *, request_bytes: int) -> None:
    received = 0
    while piece := connection.recv(1 << 16):
        received += len(piece)
        if received >= request_bytes:
            received = 0
            connection.sendall(HTTP_ANSWER)


def _grpc(connection: Any, _: Any) -> None:
    """As little HTTP/2 as grpcio needs: its windows are never filled, its header blocks never read."""
    head = header_block((":status", "200"), ("content-type", "application/grpc"))
    trailers = header_block(("grpc-status", "0"))
    connection.sendall(frame(SETTINGS, 0, 0, b""))
    buffer, position = b"", PREFACE_BYTES
    while piece := connection.recv(1 << 16):
        buffer += piece
        while len(buffer) >= position + 9:
            length = int.from_bytes(buffer[position : position + 3], "big")
            if len(buffer) < position + 9 + length:
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            stream = int.from_bytes(buffer[position + 5 : position + 9], "big")
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                connection.sendall(frame(PING, ACK, 0, buffer[position + 9 : position + 9 + length]))
            elif kind == DATA and flags & END_STREAM:
                connection.sendall(
                    frame(HEADERS, END_HEADERS, stream, head)
                    + frame(DATA, 0, stream, grpc_frame(b""))
                    + frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers)
                )
            position += 9 + length
        if len(buffer) >= position:
            buffer, position = buffer[position:], 0
