"""``python -m lite.calibration``: what the calibration's size and content do to an int8 file, model by model.

Converts int8 with 1, 10, 100 and 500 rows of the training split, and once wrongly: with rows that were not normalised, or
for tokens, which nothing normalises, with random ones. Writes ``artifacts/lite/<model>/<version>/calibration.json``:
``{"schema": 1, "made_from", "points": [{"rows", "source", "agreement", "clear_agreement", "metric", "max_abs",
"error_in_scales"}]}``, where max_abs is in raw units and error_in_scales in steps of the int8 output.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.decision import agreement
from compare.metrics import measure
from compare.tolerances import limits_for
from edge.runtime import LiteModel
from export.bundle import Export, find_exports
from lite.build import CODE, describe, find_job, versions
from lite.convert import SOURCES, Calibration, calibration
from lite.process import Worker
from models.artifacts import artifacts_root, is_current, read_json, write_json
from models.code import code_fingerprint
from models.errors import ModelError, run_cli

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SIZES = (1, 10, 100, 500)
NOT_NORMALISED, RANDOM = "rows that were not normalised", "random tokens"
SCHEMA = 1


def samples(export: Export, *, rows: int, source: str) -> Calibration:
    """The rows of one point of the curve, in the form that the converter takes. Runs in the worker."""
    if source == SOURCES["calibration"]:
        return Calibration(calibration(export, "core").batches[:rows], source)
    case = export.evidence.case("serving_default", "test" if source == NOT_NORMALISED else "random")
    assert case
    batches = [{name: value[i : i + 1] for name, value in case.inputs.items()} for i in range(min(rows, case.rows))]
    return Calibration(batches, source)


def _has_curve(export: Export) -> bool:
    """A user's model has no training rows, and often no metric."""
    return bool(export.spec.metric and export.spec.decision and export.evidence.case("core", "calibration"))


def curve_path(export: Export) -> Path:
    return export.lite("int8").with_name("calibration.json")


def update(export: Export, worker: Worker) -> dict[str, Any]:
    """The curve of one export, converted and measured where the file is out of date. Raises ConversionFailed."""
    path, fingerprint = curve_path(export), _made_from(export)
    if is_current(path, fingerprint):
        return read_json(path)
    normalised = any(tensor.affine for tensor in export.spec.inputs)
    there = len(calibration(export, "core").batches)
    sizes = sorted({min(size, there) for size in SIZES})
    wanted = [(rows, SOURCES["calibration"]) for rows in sizes]
    wanted.append((sizes[-1], NOT_NORMALISED if normalised else RANDOM))
    points = [_point(export, worker, rows, source) for rows, source in wanted]
    curve = {"schema": SCHEMA, "made_from": fingerprint, "points": points}
    write_json(path, curve)
    return curve


def _made_from(export: Export) -> str:
    evidence = export.description["evidence"]["sha256"]
    return code_fingerprint([*CODE, Path(__file__)], extra=json.dumps([export.sha256, evidence, versions()]))


def _point(export: Export, worker: Worker, rows: int, source: str) -> dict[str, Any]:
    job = find_job(export, "int8")
    with tempfile.TemporaryDirectory(prefix="lite-") as folder:
        path = Path(folder) / "int8.tflite"
        request = {**job.request(path), "calibrate": {"rows": rows, "source": source}}
        answer = worker.ask(request, f"{job} from {rows} {source}")
        write_json(path.with_suffix(".json"), describe(job, path.read_bytes(), answer))
        model = LiteModel(path)
    case, spec = export.evidence.case("serving_default", "test"), export.spec
    assert case
    assert case.labels is not None
    assert spec.decision
    assert spec.metric
    output = spec.decision.output
    answers, reference = model.predict(case.inputs)[output], case.outputs[output]
    same = agreement(answers, reference, spec.decision, clear_margin=limits_for("int8").clear_margin)
    error = float(np.abs(answers.astype(np.float64) - reference).max())
    return {
        "rows": answer["calibration"]["rows"],
        "source": source,
        "agreement": same.agreement if same else None,
        "clear_agreement": same.clear_agreement if same else None,
        "metric": measure(spec.metric.name, spec.decision.kind, case.labels, answers),
        "max_abs": error,
        "error_in_scales": error / _step(model, output),
    }


def _step(model: LiteModel, output: str) -> float:
    """One step of the int8 output in raw units."""
    tensor = next(tensor for tensor in model.outputs if tensor.name == output)
    assert tensor.scale
    return tensor.scale * (float(np.max(tensor.affine.scale)) if tensor.affine else 1.0)


def table(curves: Iterable[tuple[Export, dict[str, Any]]]) -> str:
    lines = [
        f"{'model':<12} {'rows':>4}  {'calibrated with':<30} {'agrees':>7} {'clear':>7}  {'metric':<16} {'error':>9} {'steps':>6}"
    ]
    for export, curve in curves:
        name = export.spec.metric.name if export.spec.metric else ""
        for point in curve["points"]:
            shares = ["–" if point[key] is None else f"{point[key]:.4f}" for key in ("agreement", "clear_agreement")]
            lines.append(
                f"{export.model:<12} {point['rows']:>4}  {point['source']:<30} {shares[0]:>7} {shares[1]:>7}  "
                f"{name + ' ' + format(point['metric'], '.4f'):<16} {point['max_abs']:>9.4f} {point['error_in_scales']:>6.1f}"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lite.calibration",
        description="int8 files calibrated with few, many and wrong rows: agreement, metric and error of each.",
        epilog="Environment: ARTIFACTS is the folder of the artefacts, MODELS=mlp,cnn restricts the models.",
    )
    parser.parse_args(argv)
    started = time.monotonic()
    models = [name.strip() for name in os.environ.get("MODELS", "").split(",") if name.strip()]
    newest = {export.model: export for export in find_exports(models=models or None) if _has_curve(export)}
    if not newest:
        raise ModelError(
            "there is nothing to calibrate: no export with training rows and a metric; run `make deploy-all` first"
        )
    with Worker() as worker:
        curves = [(export, update(export, worker)) for export in newest.values()]
    print(table(curves))
    print(
        f"calibration: {len(curves)} models, {time.monotonic() - started:.1f} s; result in {artifacts_root() / 'lite'}"
    )


if __name__ == "__main__":
    run_cli(main)
