"""The page's samples: a handful of real labelled test rows per model, with the reference's answers. No TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.artifacts import fingerprint, is_current, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.bundle import Export
    from export.evidence import Case
    from models.spec import ModelSpec

SAMPLES = 10


def write_samples(export: Export) -> None:
    """Write ``artifacts/web/<model>/<version>/samples.json`` where it is out of date."""
    path = export.web("float32").with_name("samples.json")
    recipe = fingerprint([Path(__file__), export.evidence_json, export.evidence_json.with_suffix(".npz")])
    if not is_current(path, recipe):
        write_json(path, {**samples(export), "made_from": recipe})


def samples(export: Export) -> dict[str, Any]:
    """``{"schema", "model", "version", "source_sha256", "spec", "kind", "samples": [{"inputs", "outputs", "label"}],
    "series", "series_dates"}``.

    Numbers keep the nesting of one row, without the batch axis; strings become text. NaN and infinity become null.
    """
    cases = export.evidence.cases()
    case = next((c for c in cases if c.kind == "test"), cases[0] if cases else None)
    places = [] if case is None else open_on_a_right_one(choose(case), case, export.spec)
    rows = [_row(case, int(i)) for i in places] if case else []
    stretch = series(case) if case else None
    return {
        "schema": 1,
        "model": export.model,
        "version": export.version,
        "source_sha256": export.sha256,
        "spec": export.spec.to_json(),
        "kind": case.kind if case else None,
        "samples": rows,
        "series": stretch,
        "series_dates": dates_of(stretch) if stretch else None,
    }


def series(case: Case) -> list[float] | None:
    """The stretch that rows [N, steps, 1] were cut from where each begins one step after the one before; else None."""
    (values,) = case.inputs.values() if len(case.inputs) == 1 else (None,)
    if values is None or values.ndim != 3 or values.shape[2] != 1 or len(values) < 2:
        return None
    if not np.array_equal(values[1:, :-1], values[:-1, 1:]):
        return None
    return [*as_json(values[0, :, 0]), *as_json(values[1:, -1, 0])]


def dates_of(stretch: list[float]) -> list[str] | None:
    """The day of each value ("1994-01-01") where it is a stretch of the weekly CO2 readings (statsmodels); else None."""
    from statsmodels.datasets import co2

    ppm = co2.load_pandas().data["co2"]
    if len(stretch) > len(ppm):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(ppm.to_numpy(np.float32), len(stretch))
    places = np.flatnonzero((windows == np.asarray(stretch, np.float32)).all(1))
    if len(places) != 1:
        return None
    return [day.date().isoformat() for day in ppm.index[places[0] :][: len(stretch)]]


def choose(case: Case, count: int = SAMPLES) -> NDArray:
    """Rows to show: one of each label in turn while labels are few, otherwise evenly spread over the set."""
    everything = np.arange(case.rows)
    labels = None if case.labels is None else case.labels.reshape(case.rows, -1)[:, 0]
    if labels is None or len(np.unique(labels)) > case.rows // 2:
        return everything[:: max(1, case.rows // count)][:count]
    places = [everything[labels == label] for label in np.unique(labels)]
    deep = max(len(p) for p in places)
    in_turn = [int(p[i]) for i in range(deep) for p in places if i < len(p)]
    return np.array(in_turn[:count])


def open_on_a_right_one(places: NDArray, case: Case, spec: ModelSpec) -> list[int]:
    """The same rows, begun with the first that the reference decides as it is labelled; none is left out."""
    decision = spec.decision
    if decision is None or decision.kind == "value" or case.labels is None:
        return [int(p) for p in places]
    values = case.outputs[decision.output].reshape(case.rows, -1)
    decided = values.argmax(1) if decision.kind == "argmax" else (values[:, 0] >= decision.threshold)
    right = decided == case.labels.reshape(case.rows, -1)[:, 0]
    first = next((i for i, p in enumerate(places) if right[p]), 0)
    return [int(p) for p in np.roll(places, -first)]


def _row(case: Case, index: int) -> dict[str, Any]:
    return {
        "inputs": {name: as_json(array[index]) for name, array in case.inputs.items()},
        "outputs": {name: as_json(array[index]) for name, array in case.outputs.items()},
        "label": None if case.labels is None else as_json(case.labels[index]),
    }


def as_json(value: Any) -> Any:
    """An array of any rank as nested lists; float32 with the digits that give the same float32 back."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    array = np.asarray(value)
    if array.ndim:
        return [as_json(v) for v in array]
    if array.dtype.kind == "f":
        number = float(array)
        if not np.isfinite(number):
            return None
        return float(f"{number:.9g}") if array.dtype.itemsize <= 4 else number
    return array.item()
