"""``lite-<variant>``: the .tflite files in this process, through the same code that runs on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import psutil

from compare.target import Session, Target
from edge.errors import EdgeError
from edge.runtime import LiteModel
from models.artifacts import read_json
from models.errors import ArtifactError, TargetError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from export.bundle import Export

    Tensors = dict[str, NDArray]

THREADS = 1


class LiteSession(Session):
    def __init__(self, export: Export, variant: str) -> None:
        path = current_file(export, variant)
        try:
            self.model = LiteModel(path, threads=THREADS)
        except EdgeError as error:
            raise ArtifactError(str(error)) from error

    def predict(self, inputs: Tensors) -> Tensors:
        try:
            return self.model.predict(inputs)
        except EdgeError as error:
            raise TargetError(str(error)) from error

    def facts(self) -> dict[str, object]:
        return {
            "artifact_bytes": self.model.bytes,
            "artifact_sha256": self.model.sha256,
            "rss_bytes": psutil.Process().memory_info().rss,
            "runtime_version": self.model.runtime,
            "threads": self.model.threads,
            "accelerator": "XNNPACK",
        }


class Lite(Target):
    batch = "static"

    def __init__(self, variant: Literal["float32", "float16", "dynamic", "int8"]) -> None:
        self.name = f"lite-{variant}"
        self.variant = variant
        self.precision = variant

    def unsupported(self, export: Export, signature: str) -> str | None:
        return unsupported_file(export, self.variant, signature)

    def prepare(self) -> None:
        import ai_edge_litert.interpreter  # noqa: F401

    def open(self, export: Export, signature: str = "serving_default") -> Session:
        return LiteSession(export, self.variant)


def current_file(export: Export, variant: str) -> Path:
    """The .tflite file that was made from this very export. Raises ArtifactError."""
    path = export.lite(variant)
    if not path.with_suffix(".json").is_file():
        raise ArtifactError(f"{path} is missing; run `make deploy-all` to convert it")
    if read_json(path.with_suffix(".json"))["source_sha256"] != export.sha256:
        raise ArtifactError(f"{path} was made from an older export of {export.model}; run `make deploy-all`")
    return path


def unsupported_file(export: Export, variant: str, signature: str) -> str | None:
    """Why there is no such .tflite file: the converter's own reason. A file that was not made yet is no such reason."""
    answered = export.description.get("brought", {}).get("signature", "serving_default")
    if signature != answered:
        return f"a .tflite file answers {answered}, not {signature!r}"
    description = export.lite(variant).with_suffix(".json")
    return read_json(description)["error"] if description.is_file() else None


TARGETS = [Lite("float32"), Lite("float16"), Lite("dynamic"), Lite("int8")]
