"""Whether a file is still the same model, and how far off it is in steps of its own output."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.cold import fixed_batch
from compare.verdict import Verdict, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.runtime import LiteModel
    from export.bundle import Export

SECONDS = 30.0  # most that the questions of one file may take; all rows are asked within it here
LEVELS = 255  # steps of an 8-bit output: what a float output's range is divided into for comparison


@dataclass(frozen=True)
class Scale:
    """One step of an output in raw units, and where it comes from."""

    step: float
    source: str  # "output tensor" | "reference's range / 255"


def quality(model: LiteModel, export: Export, variant: str) -> dict[str, Any]:
    """The verdict on all evidence with its figures, JSON-ready. Raises EdgeError when the file cannot answer."""
    signature = export.description.get("brought", {}).get("signature", "serving_default")
    cases = export.evidence.cases(signature)
    verdict = verify(
        model.predict, cases, export.spec, precision=variant, fixed_batch=fixed_batch(export), seconds=SECONDS
    )
    references = {name: np.concatenate([case.outputs[name] for case in cases]) for name in cases[0].outputs}
    return to_json(
        verdict, {t["name"]: scale_of(t, model.description, references) for t in model.description["outputs"]}
    )


def scale_of(tensor: Mapping[str, Any], description: Mapping[str, Any], references: Mapping[str, Any]) -> Scale | None:
    """The output tensor's own scale in raw units; for a float output, the 255th part of the reference's range.

    None where that range is empty.
    """
    if tensor["scale"] is not None:
        affine = description["affine"]["outputs"].get(tensor["name"])
        return Scale(tensor["scale"] * (float(np.max(affine["scale"])) if affine else 1.0), "output tensor")
    values = references[tensor["name"]]
    spread = float(np.ptp(values[np.isfinite(values)])) if values.size and values.dtype.kind == "f" else 0.0
    return Scale(spread / LEVELS, "reference's range / 255") if spread else None


def to_json(verdict: Verdict, scales: Mapping[str, Scale | None]) -> dict[str, Any]:
    """The figures of the output that is furthest off, counted in its own steps."""
    worst: tuple[float, float, float, Scale] | None = None
    for output in verdict.outputs:
        scale = scales.get(output.name)
        if scale is None or output.max_abs is None or output.p99_abs is None:
            continue
        found = (output.max_abs / scale.step, output.max_abs, output.p99_abs, scale)
        worst = max(worst, found, key=lambda f: f[0]) if worst else found
    return {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "agreement": asdict(verdict.decision) if verdict.decision else None,
        "metric": asdict(verdict.metric) if verdict.metric else None,
        "max_abs": worst[1] if worst else None,
        "scale": worst[3].step if worst else None,
        "scale_source": worst[3].source if worst else None,
        "error_in_scales": worst[0] if worst else None,
        "p99_in_scales": worst[2] / worst[3].step if worst else None,
    }
