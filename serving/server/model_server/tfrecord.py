"""TFRecord files: per record its length (uint64), the length's masked CRC-32C, the data, the data's masked CRC-32C.

Source: tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_server.errors import Code, ServingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _table() -> list[int]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


_TABLE = _table()


def masked_crc(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted as TFRecord wants it, four bytes little-endian; about 60 ns a byte."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def read_records(file: Path) -> Iterator[bytes]:
    """The records of a file. Raises ServingError DATA_LOSS in TensorFlow's words.

    Only the lengths' checksums are compared: that tells whether this is a TFRecord file at all, and what is in a record
    must still parse. The data's would cost a second for 16 MB.
    """
    content = memoryview(file.read_bytes())
    position = 0
    while position < len(content):
        length = bytes(content[position : position + 8])
        start = position + 12
        end = start + int.from_bytes(length, "little")
        if start > len(content) or content[position + 8 : start] != masked_crc(length):
            hint = " (Is this even a TFRecord file?)" if position == 0 else ""
            raise ServingError(Code.DATA_LOSS, f"corrupted record at {position}{hint}")
        if end + 4 > len(content):
            raise ServingError(Code.DATA_LOSS, f"truncated record at {position}")
        yield bytes(content[start:end])
        position = end + 4
