"""settings.toml as an object, and what a compression needs before it can start. Imports no TensorFlow."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from models import registry
from models.artifacts import read_json, sha256_file
from models.code import code_fingerprint

if TYPE_CHECKING:
    from export.bundle import Export

_HERE = Path(__file__).parent
_CODE = [_HERE / f"{name}.py" for name in ("layers", "methods", "training", "twin")]
_PACKAGES = ("tensorflow", "keras", "tf-keras", "tensorflow-model-optimization")


@dataclass(frozen=True)
class Settings:
    seed: int
    batch: int
    learning_rate: float
    pruning_learning_rate: float
    epochs: int
    patience: int
    sparsity: float
    clusters: int

    @property
    def gradual_epochs(self) -> int:
        """The epochs over which the zeros become more; the others only train what is left."""
        return max(1, self.epochs // 2)


def settings_of(model: str) -> Settings:
    table = tomllib.loads((_HERE / "settings.toml").read_text())
    return Settings(**{**table["default"], **table.get(model, {})})


def what_is_missing(export: Export) -> str | None:
    """Why a model cannot be trained further: None when its Keras file and its data are there."""
    needs = "a compression trains further, and needs the trained Keras model and its training data"
    if "brought" in export.description or export.model not in registry.names():
        return f"{needs}; {export.model} is a model that was brought, which has neither here"
    if not export.keras_file.is_file() or not export.keras_file.with_name("training.json").is_file():
        return f"{needs}; {export.keras_file} is missing, run `make train`"
    if export.description.get("lineage", {}).get("keras_sha256") != sha256_file(export.keras_file):
        return f"{needs}; {export.keras_file} is not the one that was exported, run `make export`"
    return None


def made_from(export: Export) -> str:
    """The fingerprint of everything that the compressed weights depend on."""
    missing = what_is_missing(export)
    training = missing or read_json(export.keras_file.with_name("training.json"))["made_from"]
    versions = [f"{name}=={metadata.version(name)}" for name in _PACKAGES]
    keras = export.description.get("lineage", {}).get("keras_sha256")
    return code_fingerprint(_CODE, extra=json.dumps([training, keras, asdict(settings_of(export.model)), versions]))
