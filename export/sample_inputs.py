"""The evidence's inputs alone, for a machine that has to answer them: no outputs, no labels.

``python -m export.sample_inputs FOLDER`` writes those of every export.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.bundle import find_exports
from models.artifacts import write_whole
from models.errors import run_cli

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from export.bundle import Export
    from export.evidence import Tensors


def sample_inputs(export: Export) -> Tensors:
    """``{"<kind>/<tensor>": [N, …]}`` in raw units, of the signature that callers ask, in the evidence's order."""
    signature = export.description.get("brought", {}).get("signature", "serving_default")
    return {
        f"{case.kind}/{name}": rows for case in export.evidence.cases(signature) for name, rows in case.inputs.items()
    }


def write_sample_inputs(folder: Path, exports: Iterable[Export]) -> list[Path]:
    """``<model>/<version>.npz`` below ``folder``; their paths. A model that reads text has none: no .tflite file takes it."""
    written = []
    for export in exports:
        arrays = sample_inputs(export)
        if any(rows.dtype == object for rows in arrays.values()):
            continue
        path = folder / export.model / f"{export.version}.npz"
        with write_whole(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # as in compare/npz.py
        written.append(path)
    return written


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m export.sample_inputs", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    models = [name for name in os.environ.get("MODELS", "").split(",") if name]
    written = write_sample_inputs(folder, find_exports(models=models or None))
    print(f"inputs of {len(written)} models and versions in {folder}")


if __name__ == "__main__":
    run_cli(main)
