"""gRPC's framing on HTTP/2: messages in and out of a body, the status in headers or trailers, deadlines."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from model_server.connection import too_large
from model_server.errors import Code, ServingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from model_server.connection import Limits, Receive

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
# TF Serving cuts error details here, because they travel in headers.
MAX_DETAILS = 1024


class Requests:
    """The messages of a stream of requests, as they come. It ends with the stream, or when the client has gone."""

    def __init__(self, receive: Receive, encoding: bytes, limits: Limits) -> None:
        self._receive = receive
        self._encoding = encoding
        self._limits = limits

    async def __aiter__(self) -> AsyncIterator[bytes]:
        buffer = bytearray()
        more = True
        while more:
            event = await self._receive()
            buffer += event.get("body", b"")
            more = event.get("more_body", False)
            while len(buffer) >= 5:
                end = 5 + int.from_bytes(buffer[1:5], "big")
                if end > self._limits.size:
                    raise too_large(self._limits.size)
                if len(buffer) < end:
                    break
                message = bytes(buffer[5:end])
                yield unpacked(message, self._encoding, self._limits.size) if buffer[0] else message
                del buffer[:end]

    async def gone(self) -> bool:
        """Whether the client has gone; to be asked after the last message."""
        return (await self._receive())["type"] == "http.disconnect"


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def unframed(body: bytes, encoding: bytes, limit: int) -> bytes:
    """The one message of a unary request. Raises ServingError."""
    if len(body) < 5 or len(body) != 5 + int.from_bytes(body[1:5], "big"):
        raise ServingError(Code.INTERNAL, f"the request's frame is damaged ({len(body)} bytes)")
    return unpacked(body[5:], encoding, limit) if body[0] else body[5:]


def unpacked(data: bytes, encoding: bytes, limit: int) -> bytes:
    """A compressed message. Raises ServingError: unknown encoding, damaged, larger than ``limit`` bytes."""
    bits = _WINDOW_BITS.get(encoding)
    if bits is None:
        raise ServingError(Code.UNIMPLEMENTED, f"compression {encoding.decode('latin-1')!r} is not supported")
    unpacker = zlib.decompressobj(bits)
    try:
        message = unpacker.decompress(data, limit)
    except zlib.error:
        raise ServingError(Code.INTERNAL, "the compressed message is damaged") from None
    if unpacker.unconsumed_tail:
        raise too_large(limit)
    if not unpacker.eof:
        raise ServingError(Code.INTERNAL, "the compressed message is damaged")
    return message


def seconds(timeout: bytes) -> float | None:
    """``grpc-timeout``: up to eight digits and a unit. None when it is neither."""
    unit = _UNITS.get(timeout[-1:])
    return int(timeout[:-1]) * unit if unit and len(timeout) <= 9 and timeout[:-1].isdigit() else None


def status_headers(code: Code, message: str) -> list[tuple[bytes, bytes]]:
    raw = message.encode("utf-8", "replace")
    if len(raw) > MAX_DETAILS:
        raw = raw[:MAX_DETAILS] + b"...TRUNCATED"
    return [(b"grpc-status", b"%d" % code), (b"grpc-message", _percent_encoded(raw))]


def _percent_encoded(raw: bytes) -> bytes:
    return b"".join(bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in raw)
