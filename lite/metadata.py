"""The entry ``EXPORT_ONCE`` in a .tflite file's own metadata: what a file that has lost its json still says about itself.

TFLite's schema has for this ``Model.metadata``, a list of names that point to buffers (tensorflow/compiler/mlir/lite/schema/
schema.fbs, ``table Metadata``). The entry is JSON: model, version, variant, source_sha256, signature, and ``affine``, the
normalisation that a caller applies. Whatever reads only operators and tensors never looks at it.
"""

from __future__ import annotations

import json
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

NAME = b"EXPORT_ONCE"
_ALIGNMENT = 16  # of every buffer's data (schema.fbs, ``force_align: 16``), which the generated Pack does not keep


def with_metadata(content: bytes, entry: dict[str, Any]) -> bytes:
    """The same file with ``entry`` as its metadata; an entry from before is replaced."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    buffer = schema.BufferT(data=json.dumps(entry, ensure_ascii=False).encode())
    found = next((m for m in model.metadata or [] if m.name == NAME), None)
    if found:
        model.buffers[found.buffer] = buffer
    else:
        model.metadata = [*(model.metadata or []), schema.MetadataT(name=NAME, buffer=len(model.buffers))]
        model.buffers.append(buffer)
    model.buffers = [_Aligned(buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def read_metadata(content: bytes) -> dict[str, Any] | None:
    """The entry, or None where the file has none."""
    model = schema.Model.GetRootAsModel(content, 0)
    for metadata in (model.Metadata(i) for i in range(model.MetadataLength())):
        if metadata.Name() == NAME:
            return json.loads(model.Buffers(metadata.Buffer()).DataAsNumpy().tobytes())
    return None


class _Aligned:
    def __init__(self, buffer: Any) -> None:
        self.data = None if buffer.data is None else bytes(buffer.data)

    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.data is not None:
            builder.Prep(_ALIGNMENT, len(self.data))
            data = builder.CreateByteVector(self.data)
        schema.BufferStart(builder)
        if self.data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)
