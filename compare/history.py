"""The runs below ``reports/history``, read for a comparison: checked first, so that a damaged one is a sentence and no surprise later."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compare import load_files
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ROW = ("model", "version", "target", "verdict", "artifact_sha256", "artifact_bytes", "precision")
OUTPUT = ("name", "n", "max_abs")
TIMES = ("cold_ms", "first_ms", "repeat")


@dataclass(frozen=True)
class Run:
    """What the history has of one run; ``summary`` is None when it was a load test alone."""

    run_id: str
    summary: dict[str, Any] | None
    samples: dict[str, NDArray]
    cells: list[dict[str, Any]]

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {f"{r['model']}/{r['version']}/{r['target']}": r for r in (self.summary or {"rows": []})["rows"]}


def known_runs(folder: Path) -> list[str]:
    """Ids with something to compare, the oldest first."""
    kept = (folder / "history").glob("*")
    return sorted(k.name for k in kept if (k / "summary.json").is_file() or (k / "load.json").is_file())


def read_run(folder: Path, run_id: str) -> Run:
    """Raises ModelError that names the runs there are, or says what of this one cannot be used."""
    kept = folder / "history" / run_id
    if run_id not in known_runs(folder):
        last = ", ".join(known_runs(folder)[-8:]) or "none; `make demo` makes one"
        raise ModelError(f"there is no run {run_id!r} in {folder / 'history'}; there are: {last}")
    summary = _summary(kept / "summary.json") if (kept / "summary.json").is_file() else None
    samples = _samples(kept / "samples.npz") if (kept / "samples.npz").is_file() else {}
    load = load_files.read(kept, "load")
    if (kept / "load.json").is_file() and load.trouble:
        raise ModelError(f"{kept}: {load.trouble}")
    return Run(run_id, summary, samples, load.entries)


def read_runs(folder: Path, run_ids: Sequence[str]) -> Run:
    """One run, or several as if they were one; the last one's outputs. Raises ModelError."""
    found = [read_run(folder, run_id) for run_id in run_ids]
    if len(found) == 1:
        return found[0]
    samples: dict[str, NDArray] = {}
    for key in set.intersection(*(set(run.samples) & set(run.rows) for run in found)):
        parts = [blocks(run, key) for run in found]
        if not all(parts):
            continue
        samples[key] = np.concatenate([block for blocked in parts for block in blocked])
        samples[f"{key}:calls"] = np.array([len(block) for blocked in parts for block in blocked])
        cpu = [run.samples[f"{key}:cpu_seconds"] for run in found if f"{key}:cpu_seconds" in run.samples]
        if len(cpu) == len(found):
            samples[f"{key}:cpu_seconds"] = np.concatenate(cpu)
    cells = [cell for run in found for cell in run.cells]
    return Run(",".join(run_ids), found[-1].summary, samples, cells)


def readable(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs that can be used, and a sentence for each of the others."""
    found, refused = [], []
    for run_id in known_runs(folder):
        try:
            found.append(read_run(folder, run_id))
        except ModelError as error:
            refused.append(str(error))
    return found, refused


def refuse_repeated(run_ids: Sequence[str]) -> None:
    """Raises ModelError when a run is there twice: beside itself it is the same, whatever changed, and twice it weighs double."""
    for run_id in run_ids:
        if run_ids.count(run_id) > 1:
            raise ModelError(
                f"run {run_id} is given {run_ids.count(run_id)} times; give each run once, on one side only"
            )


def blocks(run: Run, key: str) -> list[NDArray]:
    """A row's seconds, block by block. Older runs kept no boundaries, but all blocks of a row had the same number of requests."""
    values = run.samples[key]
    if (calls := run.samples.get(f"{key}:calls")) is not None:
        return np.split(values, np.cumsum(calls)[:-1]) if len(calls) else []
    latency = run.rows[key]["latency"]
    count = latency[0]["repeat"] if latency else 0
    return np.split(values, count) if count and len(values) and len(values) % count == 0 else []


def _summary(path: Path) -> dict[str, Any]:
    """Those fields that are compared."""
    try:
        data = json.loads(path.read_text(), parse_constant=_refuse)
        rows = [
            {name: row[name] for name in ROW}
            | {"metric": row["metric"]["value"] if row["metric"] else None}
            | {"outputs": [{name: output[name] for name in OUTPUT} for output in row["outputs"]]}
            | {"latency": [{name: times[name] for name in TIMES} for times in row["latency"]]}
            for row in data["rows"]
        ]
        return {"host": dict(data["host"]), "versions": dict(data["versions"]), "rows": rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{path} cannot be used ({why}); compare another run, or delete {path.parent}") from error


def _samples(path: Path) -> dict[str, NDArray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            samples = dict(found)
        for name, values in samples.items():
            key = name.removesuffix(":calls").removesuffix(":cpu_seconds")
            _check(key, name.removeprefix(key), values, samples)
        return samples
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{path} cannot be used ({why}); compare another run, or delete {path.parent}") from error


def _check(key: str, kind: str, values: NDArray, samples: dict[str, NDArray]) -> None:
    """Raises ValueError or KeyError unless they are what ``Row.kept_samples`` keeps."""
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise ValueError(f"{key}{kind} is no list of numbers")
    if not kind and not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"{key} has seconds that are not above 0")
    requests = len(samples[key])
    if kind == ":calls" and (values.dtype.kind == "f" or min(values, default=1) < 1 or values.sum() != requests):
        raise ValueError(f"{key}:calls does not add up to its {requests} requests")
    if kind == ":cpu_seconds" and len(values) != len(samples[f"{key}:calls"]):
        raise ValueError(f"{key}:cpu_seconds is not of as many blocks as {key}:calls")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
