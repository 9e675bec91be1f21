"""tf.Example on LiteRT: signatures that are a version's ``serving_default`` behind an Example parser.

``litert.json`` beside ``model.tflite`` describes them; whoever publishes a version writes it where both are known to give
the same answers::

    {"schema": 1, "signatures": {
        "classify": {"features": {"x": {"dtype": "float32", "shape": [30]}},
                     "outputs": {"classes": {"labels": ["no", "yes"]}, "scores": {"probability_of_second": "p"}}},
        "regress": {"features": …, "outputs": {"outputs": {"same_as": "y"}}}}}

``features`` are serving_default's inputs, a row each, dense. An output is a list of labels for every row, [1 - p, p] of an
output p [N, 1], or an output as it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model_server.errors import Code, ServableError, invalid
from model_server.example_parser import LISTS, Feature, parse
from model_server.examples import INPUT
from model_server.signatures import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model_server.engines import Stop
    from model_server.engines.litert import LiteRTEngine
    from model_server.signatures import Signature

FILE = "litert.json"
_STRING = 7  # DT_STRING


class ExampleSignature(NamedTuple):
    features: tuple[Feature, ...]
    needed: tuple[str, ...]  # outputs of serving_default
    outputs: dict[str, Callable[[Mapping[str, NDArray], int], NDArray]]  # (its answer, number of rows) → an output


class LiteRTExamples:
    """The ``litert`` engine for signatures whose one input is serialized Examples [N]."""

    name = "litert"
    quick = True

    def __init__(self, engine: LiteRTEngine, signatures: Mapping[str, ExampleSignature]) -> None:
        self._engine = engine
        self._signatures = signatures

    def answers(self, signature: str) -> bool:
        return signature in self._signatures

    def run(
        self, signature: str, inputs: Mapping[str, NDArray], outputs: Sequence[str], stop: Stop | None = None
    ) -> dict[str, NDArray]:
        layout, examples = self._signatures[signature], inputs[INPUT]
        if examples.ndim != 1:
            got = str(list(examples.shape)).replace(" ", "")
            raise invalid(f"input {INPUT} has the shape {got}, but the model takes [?]")
        answer = self._engine.run(DEFAULT, parse(examples, layout.features), layout.needed, stop)
        return {name: layout.outputs[name](answer, len(examples)) for name in outputs}

    def close(self) -> None:
        """The LiteRTEngine, which whoever made it closes, holds everything."""


def read_example_signatures(
    folder: Path, engine: LiteRTEngine, signatures: Mapping[str, Signature]
) -> dict[str, ExampleSignature]:
    """What ``litert.json`` says; nothing where there is none. Raises ServableError when it does not fit the version."""
    file = folder / FILE
    try:
        described = json.loads(file.read_bytes())["signatures"]
        return {name: _signature(entry, engine, signatures[name]) for name, entry in described.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServableError(
            Code.INVALID_ARGUMENT,
            f"{file} does not fit saved_model.pb and model.tflite beside it ({type(error).__name__}: {error}); "
            "publish the version again, or remove that file to leave its signatures to TensorFlow",
        ) from None


def _signature(entry: Mapping[str, Any], engine: LiteRTEngine, signature: Signature) -> ExampleSignature:
    if signature.inputs != {INPUT: _STRING}:
        raise ValueError(f"signature {signature.name} does not take one string tensor, {INPUT}")
    features = tuple(
        Feature(name, of["dtype"], tuple(of["shape"])) for name, of in entry["features"].items() if of["dtype"] in LISTS
    )
    taken = {name: (np.dtype(dtype), tuple(shape[1:])) for name, (dtype, shape) in engine.inputs.items()}
    if {f.name: (np.dtype(f.dtype), f.shape) for f in features} != taken:
        raise ValueError(f"the features of {signature.name} are not the inputs of model.tflite")
    needed: list[str] = []
    outputs = {name: _output(of, needed) for name, of in entry["outputs"].items()}
    if outputs.keys() != set(signature.outputs) or not set(needed) <= engine.outputs.keys():
        raise ValueError(f"the outputs of {signature.name} are not those of saved_model.pb")
    return ExampleSignature(features, tuple(dict.fromkeys(needed)), outputs)


def _output(of: Mapping[str, Any], needed: list[str]) -> Callable[[Mapping[str, NDArray], int], NDArray]:
    ((kind, value),) = of.items()
    if kind == "labels":
        row = np.array([label.encode() for label in value], object)
        return lambda answer, rows: np.tile(row, (rows, 1))
    needed.append(value)
    if kind == "same_as":
        return lambda answer, rows: answer[value]
    if kind == "probability_of_second":
        return lambda answer, rows: np.concatenate([1 - answer[value], answer[value]], axis=1)
    raise ValueError(f"{kind} is no way to make an output; there are labels, same_as and probability_of_second")
