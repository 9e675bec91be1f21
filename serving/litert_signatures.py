"""``litert.json``: signatures on tf.Example that LiteRT answers with the Example parsed in Python.

The ``server`` variant answers ``serving_default`` alone. ``classify`` and ``regress`` (models/string_signatures.py) are the
same model behind an Example parser, with the answer put under TF Serving's names. What is published here tells the
server so, for those signatures whose answers, made that way, pass the verdict on all their evidence.
The format: serving/server/model_server/engines/litert_examples.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.verdict import Verdict, verify
from edge.runtime import LiteModel
from serving.client.messages import message

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from compare.calls import Predict, Tensors
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


def proven(export: Export, tflite: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Verdict]]:
    """The candidates that pass the verdict when ``tflite`` answers serving_default, and every candidate's verdict."""
    found, verdicts = candidates(export), {}
    model = LiteModel(tflite) if found else None
    for name, entry in found.items():
        # Without labels: the decision and the metric are those of serving_default, whose output has another name.
        cases = [replace(case, labels=None) for case in export.evidence.cases(name)]
        if model and cases:
            verdicts[name] = verify(behind_examples(entry, model.predict), cases, export.spec)
    return {name: found[name] for name, verdict in verdicts.items() if verdict.verdict == "pass"}, verdicts


def behind_examples(entry: dict[str, Any], predict: Predict) -> Predict:
    """``{"inputs": serialized Examples [N]}`` → the entry's outputs, with serving_default answered by ``predict``."""
    example = message("tensorflow.Example")

    def answer(inputs: Tensors) -> Tensors:
        rows = [example.FromString(data).features.feature for data in inputs["inputs"].tolist()]
        columns = {
            name: np.array([getattr(row[name], _LISTS[of["dtype"]]).value for row in rows], of["dtype"])
            for name, of in entry["features"].items()
        }
        shaped = {name: column.reshape(-1, *entry["features"][name]["shape"]) for name, column in columns.items()}
        answered = predict(shaped)
        return {name: _output(of, answered, len(rows)) for name, of in entry["outputs"].items()}

    return answer


def _output(of: dict[str, Any], answered: Tensors, rows: int) -> NDArray:
    ((kind, value),) = of.items()
    if kind == "labels":
        return np.tile(np.array([label.encode() for label in value], object), (rows, 1))
    if kind == "same_as":
        return answered[value]
    return np.concatenate([1 - answered[value], answered[value]], axis=1)
