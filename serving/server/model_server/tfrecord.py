"""TFRecord files: per record its length (uint64), the length's masked CRC-32C, the data, the data's masked CRC-32C.

Source: tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from model_server.errors import Code, ServingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bits reversed
BLOCK = 512  # bytes whose checksum is one NumPy gather
SHORT = 32  # bytes; below it Python's own loop is quicker than NumPy


class _Tables:
    """``of_byte``: what a byte adds to the checksum. ``of_block``: the same for each place of a block, [BLOCK × 256]."""

    def __init__(self) -> None:
        last = np.arange(256, dtype=np.uint32)
        for _ in range(8):
            last = np.where(last & 1, (last >> 1) ^ np.uint32(POLYNOMIAL), last >> 1).astype(np.uint32)
        table = np.empty((BLOCK, 256), np.uint32)
        table[-1] = last
        for place in range(BLOCK - 2, -1, -1):  # one byte further from the end: the same, moved on by a zero byte
            after = table[place + 1]
            table[place] = (after >> 8) ^ last[after & 0xFF]
        self.of_byte: list[int] = last.tolist()
        self.of_block = table.ravel()
        self.places = np.arange(BLOCK) * 256
        self.first_four: list[list[int]] = table[:4].tolist()


_tables = cache(_Tables)


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C of ``data``, about 10 ns a byte for 1 kB; a plain Python loop takes 80 ns.

    A CRC is linear: a block's checksum is the XOR of what each of its bytes adds on its own, looked up by its place.
    """
    tables = _tables()
    if len(data) < SHORT:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = crc >> 8 ^ tables.of_byte[(crc ^ byte) & 0xFF]
        return crc ^ 0xFFFFFFFF
    # The initial value is the same as the first four bytes inverted, and zeros before them change nothing then.
    padding = -len(data) % BLOCK
    values = np.zeros(padding + len(data), np.uint8)
    values[padding:] = np.frombuffer(data, np.uint8)
    values[padding : padding + 4] ^= 0xFF
    crc = 0
    first, second, third, fourth = tables.first_four
    for start in range(0, len(values), BLOCK * 2048):  # 1 MiB a time: each byte becomes an index of 8 bytes
        blocks = values[start : start + BLOCK * 2048].reshape(-1, BLOCK)
        for added in np.bitwise_xor.reduce(tables.of_block.take(tables.places + blocks), axis=1).tolist():
            moved = first[crc & 0xFF] ^ second[crc >> 8 & 0xFF] ^ third[crc >> 16 & 0xFF] ^ fourth[crc >> 24]
            crc = moved ^ added
    return crc ^ 0xFFFFFFFF


def masked_crc(data: bytes | memoryview) -> bytes:
    """CRC-32C, rotated and shifted as TFRecord wants it, four bytes little-endian."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF).to_bytes(4, "little")


def framed(data: bytes) -> bytes:
    """One record as it stands in a file."""
    length = len(data).to_bytes(8, "little")
    return b"".join((length, masked_crc(length), data, masked_crc(data)))


def read_records(file: Path) -> Iterator[bytes]:
    """The records of a file. Raises ServingError DATA_LOSS in TensorFlow's words."""
    content = memoryview(file.read_bytes())
    position = 0
    while position < len(content):
        length = content[position : position + 8]
        start = position + 12
        end = start + int.from_bytes(length, "little")
        if start > len(content) or content[position + 8 : start] != masked_crc(length):
            hint = " (Is this even a TFRecord file?)" if position == 0 else ""
            raise ServingError(Code.DATA_LOSS, f"corrupted record at {position}{hint}")
        if end + 4 > len(content):
            raise ServingError(Code.DATA_LOSS, f"truncated record at {position}")
        if content[end : end + 4] != masked_crc(content[start:end]):
            raise ServingError(Code.DATA_LOSS, f"corrupted record at {position}")
        yield bytes(content[start:end])
        position = end + 4
