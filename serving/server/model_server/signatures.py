"""The signatures of a version, read from saved_model.pb or, where there is none, from model.tflite."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from model_server.errors import Code, ServableError, invalid
from model_server.protos import SavedModel
from model_server.tensors import BY_ENUM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
    def outputs(self) -> list[str]:
        return list(self.proto.outputs)

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
        saved = SavedModel.FromString(file.read_bytes())
    except OSError:
        raise ServableError(
            Code.NOT_FOUND,
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            f"`saved_model.pb`)\nSpecified file path: {folder}",
        ) from None
    except DecodeError:
        raise ServableError(Code.INVALID_ARGUMENT, f"Can't parse {file} as binary proto") from None
    for graph in saved.meta_graphs:
        if set(graph.meta_info_def.tags) == tags:
            return {name: Signature(name, proto) for name, proto in graph.signature_def.items()}
    wanted = " ".join(sorted(tags))
    raise ServableError(
        Code.NOT_FOUND,
        f"Could not find meta graph def matching supplied tags: {{ {wanted} }}. To inspect available tag-sets in the "
        f"SavedModel, please use the SavedModel CLI: `saved_model_cli show --dir {folder}`",
    )


def dtype_name(enum: int) -> str:
    return BY_ENUM[enum].name if enum in BY_ENUM else f"DataType {enum}"
