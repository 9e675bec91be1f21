"""Export: one exported model and version, as every room downstream sees it. NumPy only, no TensorFlow.

``artifacts/evidence/<model>/<version>.json`` describes it: ``{"schema": 1, "spec", "version", "sha256", "signatures",
"evidence": {"sha256", "counts"}, "seeds", "lineage", "made_from"}``; ``sha256`` is the hash of the SavedModel's tensors, which every artefact made from it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from export.evidence import Evidence
from models.artifacts import artifacts_root, read_json
from models.errors import ModelError
from models.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Export:
    """Paths are below ``root`` (``artifacts/``, or the folder of one ``make check``)."""

    root: Path
    model: str
    version: int

    @property
    def saved_model(self) -> Path:
        return self.root / "savedmodels" / self.model / str(self.version)

    @property
    def evidence_json(self) -> Path:
        return self.root / "evidence" / self.model / f"{self.version}.json"

    @property
    def keras_file(self) -> Path:
        """The trained Keras model, raw units in and out: the reference. Only the ``keras`` target reads it."""
        return self.root / "training" / self.model / f"{self.version}.keras"

    def lite(self, variant: str) -> Path:
        return self.root / "lite" / self.model / str(self.version) / f"{variant}.tflite"

    def web(self, variant: str) -> Path:
        return self.root / "web" / self.model / str(self.version) / variant

    @property
    def published(self) -> Path:
        return self.root / "repository" / self.model / str(self.version)

    @cached_property
    def description(self) -> dict[str, Any]:
        return read_json(self.evidence_json)

    @cached_property
    def spec(self) -> ModelSpec:
        return ModelSpec.from_json(self.description["spec"])

    @property
    def sha256(self) -> str:
        return self.description["sha256"]

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence.load(self.evidence_json.with_suffix(".npz"))


def find_exports(
    root: Path | None = None, *, models: Iterable[str] | None = None, versions: Iterable[int] | None = None
) -> list[Export]:
    """All complete exports below ``root``, by model and version. Raises ModelError for a model that is not there."""
    root = root or artifacts_root()
    found = [
        Export(root, path.parent.name, int(path.stem))
        for path in sorted((root / "evidence").glob("*/*.json"))
        if path.stem.isdigit()
    ]
    known = sorted({e.model for e in found})
    for name in models or ():
        if name not in known:
            raise ModelError(
                f"no export of a model named {name!r}; there are: {', '.join(known) or 'none (run `make deploy-all`)'}"
            )
    wanted_models = set(models) if models else set(known)
    wanted_versions = set(versions) if versions else None
    return sorted(
        (e for e in found if e.model in wanted_models and (wanted_versions is None or e.version in wanted_versions)),
        key=lambda e: (e.model, e.version),
    )
