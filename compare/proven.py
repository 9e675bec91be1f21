"""Which cells have passed on this machine: ``artifacts/proven.json``, by target, artefact and environment.

The first comparison of an artefact has a second for its evidence. One that has passed is asked fewer rows the next time,
in the same batches and twice as before; the row says how many. ``--full-evidence`` asks them all again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from compare.cold import key_of
from models.artifacts import artifacts_root, read_json, write_json
from models.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path


class Proven:
    """``environment``: whatever may change an answer beside the artefact. ``save`` writes what was added."""

    def __init__(self, environment: Any, path: Path | None = None) -> None:
        self.path = path or artifacts_root() / "proven.json"
        self._environment = environment
        self._keys: set[str] = set()
        with contextlib.suppress(ArtifactError, TypeError):
            self._keys = set(read_json(self.path))

    def has(self, target: str, artefact: str) -> bool:
        return key_of(target, artefact, self._environment) in self._keys

    def add(self, target: str, artefact: str) -> None:
        self._keys.add(key_of(target, artefact, self._environment))

    def save(self) -> None:
        with contextlib.suppress(ArtifactError):  # what cannot be kept costs time, not the run
            write_json(self.path, sorted(self._keys))
