"""The signatures of a version, read from saved_model.pb or, where there is none, from model.tflite."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError

from model_server.errors import Code, ServableError, invalid
from model_server.protos import MetaGraphDef
from model_server.tensors import BY_ENUM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray]

DEFAULT = "serving_default"


@dataclass(frozen=True)
class Signature:
    """A SignatureDef with what a request needs at hand."""

    name: str
    proto: Any

    @cached_property
    def inputs(self) -> dict[str, int]:
        """Each input's name and DataType."""
        return {name: info.dtype for name, info in self.proto.inputs.items()}

    @cached_property
    def dtypes(self) -> dict[str, np.dtype]:
        """Each input's name and NumPy dtype; those that requests can have."""
        return {name: BY_ENUM[enum].dtype for name, enum in self.inputs.items() if enum in BY_ENUM}

    @cached_property
    def outputs(self) -> list[str]:
        return list(self.proto.outputs)

    @property
    def takes_any_number_of_rows(self) -> bool:
        """Whether no input has an axis 0 of a fixed size."""
        return all(not shape or shape[0] == -1 for shape in self.shapes.values())

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...] | None]:
        """Each input's shape, -1 where free, or None where even the rank is free."""
        return {
            name: None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
            for name, info in self.proto.inputs.items()
        }


def check_shape(name: str, got: tuple[int, ...], wanted: Sequence[int] | None) -> None:
    """Raises ServingError INVALID_ARGUMENT unless an input has the wanted shape, where -1 and None take anything."""
    if wanted is None or (
        len(got) == len(wanted) and all(want in (-1, size) for size, want in zip(got, wanted, strict=True))
    ):
        return
    sizes = ",".join("?" if size == -1 else str(size) for size in wanted)
    raise invalid(f"input {name} has the shape [{','.join(map(str, got))}], but the model takes [{sizes}]")


def read_signatures(folder: Path, tags: frozenset[str]) -> dict[str, Signature]:
    """The signatures of the MetaGraph with exactly these tags. Raises ServableError in TF Serving's words."""
    file = folder / "saved_model.pb"
    try:
        graphs = [_without_graph(field.content) for field in _fields(file.read_bytes()) if field.number == _META_GRAPHS]
    except OSError:
        raise ServableError(
            Code.NOT_FOUND,
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            f"`saved_model.pb`)\nSpecified file path: {folder}",
        ) from None
    except (DecodeError, ValueError):
        raise ServableError(Code.INVALID_ARGUMENT, f"Can't parse {file} as binary proto") from None
    for graph in graphs:
        if set(graph.meta_info_def.tags) == tags:
            return {name: Signature(name, proto) for name, proto in graph.signature_def.items()}
    wanted = " ".join(sorted(tags))
    raise ServableError(
        Code.NOT_FOUND,
        f"Could not find meta graph def matching supplied tags: {{ {wanted} }}. To inspect available tag-sets in the "
        f"SavedModel, please use the SavedModel CLI: `saved_model_cli show --dir {folder}`",
    )


# Field numbers of tensorflow.SavedModel and tensorflow.MetaGraphDef.
_META_GRAPHS = 2
_GRAPHS_OWN = {2, 4, 7}  # graph_def, collection_def, object_graph_def


def _without_graph(content: memoryview) -> Any:
    """A MetaGraphDef without the graph itself: parsed, that would take 20 MB for the lstm, and nobody here reads it."""
    return MetaGraphDef.FromString(b"".join(f.whole for f in _fields(content) if f.number not in _GRAPHS_OWN))


class _Field(NamedTuple):
    number: int
    content: memoryview  # of a length-delimited field; empty for others
    whole: memoryview


def _fields(message: bytes | memoryview) -> Iterator[_Field]:
    """The fields of a message in protobuf's wire format, unparsed. Raises ValueError when that is damaged."""
    data = memoryview(message)
    position = 0
    while position < len(data):
        start = position
        tag, position = _varint(data, position)
        content = data[:0]
        match tag & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                length, position = _varint(data, position)
                content = data[position : position + length]
                position += length
            case 5:
                position += 4
            case kind:
                raise ValueError(f"wire type {kind}")
        if position > len(data):
            raise ValueError("the last field is cut off")
        yield _Field(tag >> 3, content, data[start:position])


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number and the position behind it."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("a number is cut off")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def dtype_name(enum: int) -> str:
    return BY_ENUM[enum].name if enum in BY_ENUM else f"DataType {enum}"
