"""Export one trained version: the SavedModel, its evidence, and the json that describes both, in this order.

The json is removed first and written last, and is what makes an export count, so whoever finds it finds all of it.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.inputs import SEED
from models.artifacts import is_current, read_json, sha256_file, write_json, write_whole
from models.code import code_fingerprint
from models.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.bundle import Export

_SOURCES = ("build", "evidence", "inputs", "inspection", "record", "signatures", "warmup")


def training_of(export: Export) -> dict[str, Any]:
    return read_json(export.keras_file.with_name("training.json"))


def made_from(export: Export, training: dict[str, Any]) -> str:
    """The fingerprint of an export: that of its training, and this room's code."""
    here = Path(__file__).parent
    return code_fingerprint(
        [here / f"{name}.py" for name in _SOURCES], extra=f"{training['made_from']} {export.version}"
    )


def is_exported(export: Export, fingerprint_now: str) -> bool:
    evidence = export.evidence_json
    return (
        is_current(evidence, fingerprint_now)
        and (export.saved_model / "saved_model.pb").is_file()
        and evidence.with_suffix(".npz").is_file()
    )


def export_versions(stale: list[tuple[Export, dict[str, Any]]]) -> None:
    """The versions of one model, with their trainings, one after another."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel("ERROR")  # it warns of every new batch size
    for export, training in stale:
        print(f"exporting {export.model} version {export.version}", flush=True)
        export_version(export, training)


def export_version(export: Export, training: dict[str, Any]) -> None:
    """Write everything about one version of a model of ours. Raises ArtifactError, ModelError."""
    from export.inspection import read_signatures
    from export.record import record
    from export.signatures import write_saved_model
    from export.warmup import write_warmup
    from models import registry
    from models.keras_file import load

    declared = registry.load(export.model)
    if declared.dataset is None:
        raise ModelError(f"models/{export.model}.py has no dataset in its SPEC; add one to record evidence")
    data = declared.dataset()
    spec = data.complete(declared)
    model = load(export.keras_file)
    extras = declared.extra_signatures(spec) if declared.extra_signatures else []
    arrays = record(model, spec, data, extras)
    with write_whole(export.saved_model) as folder:
        write_saved_model(model, spec, extras, folder)
        rows = {t.name: arrays[f"serving_default/test/in/{t.name}"] for t in spec.inputs}
        write_warmup(folder, export.model, rows)
        signatures = read_signatures(folder)
        export.evidence_json.unlink(missing_ok=True)
    lineage = {
        "keras_sha256": sha256_file(export.keras_file),
        "training": {
            key: training[key] for key in ("made_from", "epochs", "metric", "baselines", "rows", "splits", "seed")
        },
    }
    describe(export, spec.to_json(), signatures, arrays, "keras", lineage, made_from(export, training))


def describe(
    export: Export,
    spec: dict[str, Any],
    signatures: dict[str, Any],
    arrays: dict[str, NDArray],
    reference: str,
    lineage: dict[str, Any],
    fingerprint_now: str,
    **more: Any,
) -> None:
    """Write the evidence and, last, the json. ``reference`` is what gave the answers: "keras" or "savedmodel"."""
    from export.inspection import tensor_hash

    evidence = export.evidence_json.with_suffix(".npz")
    with write_whole(evidence) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_json(
        export.evidence_json,
        {
            "schema": 1,
            "spec": spec,
            "version": export.version,
            "sha256": tensor_hash(export.saved_model),
            "signatures": signatures,
            "reference": reference,
            "evidence": {"sha256": sha256_file(evidence), "counts": _counts(arrays)},
            "seeds": {"random": SEED},
            "lineage": {
                **lineage,
                "versions": {p: installed(p) for p in ("tensorflow", "keras", "numpy")},
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            **more,
            "made_from": fingerprint_now,
        },
    )


def _counts(arrays: dict[str, NDArray]) -> dict[str, int]:
    """Rows by ``<signature>/<kind>``."""
    counts: dict[str, int] = {}
    for key, array in arrays.items():
        signature, kind, side, *rest = key.split("/")
        if side == "in" and not rest[-1].endswith((".bytes", ".shape")):
            rows = len(array) - 1 if rest[-1].endswith(".offsets") else len(array)
            counts.setdefault(f"{signature}/{kind}", rows)
    return counts
