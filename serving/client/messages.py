"""TF Serving's messages without TensorFlow: classes made from the descriptors in ``tensorflow_serving.binpb``.

They are made when first asked for, in a descriptor pool of their own, so that importing a client stays cheap and
TensorFlow, which registers the same names in the default pool, can be imported beside them.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

_lock = threading.Lock()
_pools: list[Any] = []


def pool() -> Any:
    """The ``DescriptorPool`` with every file that TF Serving's API is made of."""
    with _lock:
        if not _pools:
            from google.protobuf.descriptor_pool import DescriptorPool

            made = DescriptorPool()
            for file in _split(Path(__file__).with_name("tensorflow_serving.binpb").read_bytes()):
                made.AddSerializedFile(file)
            _pools.append(made)
        return _pools[0]


@cache
def message(name: str) -> Any:
    """The class of a message by its full name, for example ``tensorflow.TensorProto``."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(pool().FindMessageTypeByName(name))


def parse_config(text: str) -> Any:
    """A ``ModelServerConfig`` from the text of a model_config_file. Raises ValueError with the line that is wrong."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, message("tensorflow.serving.ModelServerConfig")(), descriptor_pool=pool())
    except text_format.ParseError as error:
        raise ValueError(str(error)) from None


def enum_name(of: Any, field: str) -> str:
    """The name of an enum field's value: ``AVAILABLE``, ``OK``, …"""
    return of.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(of, field)].name


def _split(files: bytes) -> list[bytes]:
    """The files of a serialized FileDescriptorSet (``repeated FileDescriptorProto file = 1``).

    Read by hand: protobuf's own class for it lies in descriptor_pb2, whose import costs more than all else here.
    """
    found, at = [], 0
    while at < len(files):
        assert files[at] == 0x0A, "field 1, length-delimited"
        size, shift, at = 0, 0, at + 1
        while True:
            byte = files[at]
            at, size, shift = at + 1, size | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        found.append(files[at : at + size])
        at += size
    return found
