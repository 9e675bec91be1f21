"""`python -m lite` on another artefact root, and what it wrote about a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from models.artifacts import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from export.bundle import Export


def run_lite(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m lite`` on another artefact root."""
    return subprocess.run(
        [sys.executable, "-m", "lite", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ARTIFACTS": str(root), "MODELS": ""},
        capture_output=True,
        text=True,
    )


def description(export: Export, variant: str) -> dict:
    return json.loads(export.lite(variant).with_suffix(".json").read_text())
