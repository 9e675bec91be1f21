"""Which .tflite files the report is about: every variant that ``lite`` knows, of each model's newest version."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from export.bundle import find_exports
from lite.variants import VARIANTS
from models.artifacts import read_json
from models.errors import ArtifactError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from export.bundle import Export

COMMAND = "run `make lite-report`, which converts first"


@dataclass(frozen=True)
class LiteFile:
    """One variant of one model. ``error``: the reason why there is no .tflite; then there is only the json."""

    export: Export
    variant: str
    description: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.export.lite(self.variant)

    @property
    def error(self) -> str | None:
        return self.description["error"]

    @property
    def gzip_bytes(self) -> int | None:
        """Size as it travels: where pruned and clustered weights show, which the file itself keeps at full width."""
        if self.error:
            return None
        return self.description.get("gzip_bytes") or len(gzip.compress(self.path.read_bytes(), mtime=0))

    @property
    def serves_any_batch(self) -> bool:
        shape = self.description["inputs"][0]["shape"] if self.description["inputs"] else [1]
        return bool(shape) and shape[0] is None


def find_files(
    exports: Sequence[Export], variants: Sequence[str] = (), *, made: Sequence[str] | None = None
) -> list[LiteFile]:
    """The files of ``exports``, in the order of ``lite.variants``. ``made``: the variants that exist for these exports.

    Raises ModelError for an unknown variant, ArtifactError for a file that is missing or made from an older export.
    """
    for name in variants:
        if name not in VARIANTS:
            raise ModelError(f"there is no variant named {name!r}; choose among {', '.join(VARIANTS)}")
    wanted = [name for name in made or VARIANTS if not variants or name in variants]
    return [_read(export, name) for export in exports for name in wanted]


def _read(export: Export, variant: str) -> LiteFile:
    path = export.lite(variant).with_suffix(".json")
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; {COMMAND}")
    file = LiteFile(export, variant, read_json(path))
    if file.description["source_sha256"] != export.sha256:
        raise ArtifactError(f"{path} was made from an older export of {export.model}; {COMMAND}")
    if not file.error and not file.path.is_file():
        raise ArtifactError(f"{file.path} is missing though its json describes it; {COMMAND}")
    return file


def newest_exports(models: Sequence[str] = ()) -> list[Export]:
    """The newest version of each model. Raises ModelError for an unknown one, or without any."""
    newest = {export.model: export for export in find_exports(models=models or None)}  # sorted by version
    if not newest:
        raise ModelError("there is no export to report on; run `make lite-report`, which trains and exports first")
    return list(newest.values())
