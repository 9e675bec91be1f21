"""What one runtime answers, in whichever environment it lives: ``python -m tests.edge.runtime_answers <runtime> <artifacts> <out>``.

Every model's float32 and int8, with and without XNNPACK, on rows of the evidence. Writes an .npz with the file's own
outputs, one invocation per row, under ``<model>/<variant>/<delegate>/first`` and ``…/again``; or ``…/error``. Imports
NumPy and edge/ alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edge.errors import EdgeError
from edge.runtime import LiteModel

MODELS = ("mlp", "cnn", "lstm", "transformer")
VARIANTS = ("float32", "int8", "dynamic")
DELEGATES = ("xnnpack", "none")
ROWS = 24


def answers(runtime: str, artifacts: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in MODELS:
        evidence = np.load(artifacts / "evidence" / name / "2.npz")
        for variant in VARIANTS:
            for delegate in DELEGATES:
                key = f"{name}/{variant}/{delegate}"
                try:
                    model = LiteModel(
                        artifacts / "lite" / name / "2" / f"{variant}.tflite",
                        runtime=runtime,
                        delegate=None if delegate == "xnnpack" else delegate,
                    )
                    prepared = model.prepare(
                        {t.name: evidence[f"serving_default/test/in/{t.name}"][:ROWS] for t in model.inputs}
                    )
                    for turn in ("first", "again"):
                        found[f"{key}/{turn}"] = ask(model, prepared)
                except EdgeError as error:
                    found[f"{key}/error"] = np.array(str(error))
    return found


def ask(model: LiteModel, prepared: dict[str, np.ndarray]) -> np.ndarray:
    (output,) = model.outputs
    return np.concatenate(
        [model.invoke({name: rows[i : i + 1] for name, rows in prepared.items()})[output.name] for i in range(ROWS)]
    )


if __name__ == "__main__":
    runtime, artifacts, out = sys.argv[1:]
    np.savez(out, **answers(runtime, Path(artifacts)))  # type: ignore[arg-type]  # as in compare/npz.py
