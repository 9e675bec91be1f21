"""``litert.json``: signatures on tf.Example that LiteRT answers with the Example parsed in Python.

The ``server`` variant answers ``serving_default`` alone. ``classify`` and ``regress`` (models/string_signatures.py) are the
same model behind an Example parser, with the answer put under TF Serving's names. This file tells the server so; a
published one names those signatures only whose answers, made that way, are proven (proof.py).
The format: serving/server/model_server/engines/litert_examples.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.artifacts import write_json

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from export.bundle import Export

FILE = "litert.json"
_LISTS = {"float32": "float_list", "int64": "int64_list"}  # what tf.io.FixedLenFeature takes, and a tensor here can be


def candidates(export: Export) -> dict[str, dict[str, Any]]:
    """What each classify or regress signature would be on LiteRT, by what its ModelSpec says."""
    spec, found = export.spec, {}
    if len(spec.outputs) != 1 or any(t.dtype not in _LISTS or None in t.shape[1:] for t in spec.inputs):
        return {}
    features = {t.name: {"dtype": t.dtype, "shape": list(t.shape[1:])} for t in spec.inputs}
    output = spec.outputs[0].name
    labels = list(spec.decision.labels) if spec.decision else []
    for name, signature in export.description["signatures"].items():
        outputs = {t["name"] for t in signature["outputs"]}
        if outputs == {"classes", "scores"} and len(labels) == 2:
            entry = {"classes": {"labels": labels}, "scores": {"probability_of_second": output}}
        elif outputs == {"outputs"}:
            entry = {"outputs": {"same_as": output}}
        else:
            continue
        if [(t["name"], t["dtype"]) for t in signature["inputs"]] == [("inputs", "string")]:
            found[name] = {"features": features, "outputs": entry}
    return found


def write(folder: Path, export: Export, only: Collection[str] | None = None) -> None:
    """``litert.json`` into a version's folder, with the candidates that are in ``only``; none, no file."""
    signatures = {name: entry for name, entry in candidates(export).items() if only is None or name in only}
    if signatures:
        write_json(folder / FILE, {"schema": 1, "signatures": signatures})
