"""Read a ``.keras`` file, ours or a user's."""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from typing import TYPE_CHECKING

import keras

from models.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> keras.Model:
    """Read a ``.keras`` file, after importing those of our modules whose layers it names. Raises ModelError."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json").decode()
        for module in sorted(_modules(json.loads(config))):
            importlib.import_module(module)
        return keras.models.load_model(path, compile=False)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; run `make deploy-all` to train it") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, ImportError, OSError) as error:
        text = str(error)
        unknown = re.search(r"Could not locate (?:class|function) '([^']+)'", text)
        if unknown:
            raise ModelError(
                f"{path} uses the class {unknown[1]!r}, which is defined elsewhere, so it cannot be loaded here; "
                "export the model as a SavedModel, which needs no Python classes"
            ) from error
        reason = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"{path} does not load as a Keras model ({reason.rstrip('.')}); save it again with model.save() of Keras 3, "
            "or export it as a SavedModel, which needs no Python classes"
        ) from error


def _modules(config: object) -> set[str]:
    if isinstance(config, dict):
        own = {config["module"]} if str(config.get("module", "")).startswith("models.") else set()
        return own.union(*(_modules(value) for value in config.values()))
    if isinstance(config, list):
        return set().union(*(_modules(value) for value in config))
    return set()
