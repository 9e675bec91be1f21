"""One real row of each published model as a request that curl can send: ``artifacts/run/<model>.json``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from deploy.services import published_models
from deploy.supervision import run_folder
from models.artifacts import artifacts_root, write_json

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "serving_default/test/in/"


def write_examples() -> None:
    """The first recorded test row of the newest version, in TF Serving's REST row format; a model without one has none."""
    for model in published_models():
        recorded = sorted((artifacts_root() / "evidence" / model).glob("*.npz"), key=lambda p: (len(p.stem), p.stem))
        if recorded:
            with contextlib.suppress(OSError, ValueError):
                _write(recorded[-1], run_folder() / f"{model}.json")


def _write(evidence: Path, example: Path) -> None:
    with np.load(evidence, allow_pickle=False) as arrays:
        row = {key.removeprefix(PREFIX): arrays[key][0].tolist() for key in arrays.files if key.startswith(PREFIX)}
    if row and not any(name.endswith((".bytes", ".offsets", ".shape")) for name in row):
        write_json(example, {"instances": [row]})
