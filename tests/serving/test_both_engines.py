"""The same questions asked of our four models: on a server without TensorFlow, and on one that has no other engine for them.

Codes and messages must be the same, and values within the tolerance of ``compare/tolerances.toml`` for float32.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from compare.distance import smallest_tolerance
from compare.tolerances import limits_for
from serving.client.rest import RestClient
from serving.launch import ENVIRONMENTS
from tests.serving.engine_questions import CELLS, MODELS, QUESTIONS, Subject
from tests.serving.golden_replay import Connection, Step, without_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from serving.local import LocalServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ENVIRONMENTS["tensorflow"] / "bin" / "model-server").is_file(),
        reason="needs the environment with TensorFlow: make serving/server/.venv-tensorflow",
    ),
]

_FLOAT = re.compile(r"(?<=: )(-?\d+\.\S*|-?\d+e\S+|nan|-?inf)\b")  # in a message's text
_RELU = "TensorFlow's ReLU turns NaN into 0, LiteRT's passes it on, and infinities become NaN before it"
_OVERFLOW = "the sum over the series overflows in LiteRT's order, not in TensorFlow's"
_ONLY_TENSORFLOW = "a signature other than serving_default, static and those on tf.Example needs TensorFlow"
# What the kernels for one processor do and those for another (AVX2, AVX-512) do not: these may differ.
_BY_PROCESSOR = (_RELU, _OVERFLOW)
# Where the two answer differently, and why. One that disappears fails, unless it depends on the processor.
DIFFERENT: dict[tuple[str, str], str] = {
    **{
        (model, f"{protocol}, {value}"): _RELU
        for model in ("mlp", "cnn")
        for protocol in ("REST", "gRPC")
        for value in ("NaN", "Infinity", "-Infinity")
    },
    ("mlp", "REST, largest float"): _RELU,
    ("mlp", "gRPC, largest float"): _RELU,
    ("lstm", "REST, largest float"): _OVERFLOW,
    ("lstm", "gRPC, largest float"): _OVERFLOW,
    ("transformer", "gRPC, strings"): _ONLY_TENSORFLOW,
    ("transformer", "REST, strings"): _ONLY_TENSORFLOW,
    **{(model, "gRPC, signature core"): _ONLY_TENSORFLOW for model in MODELS},
    **{
        (
            model,
            "gRPC, signature static, 2 rows",
        ): "LiteRT answers it from serving_default's file, which has a free batch"
        for model in MODELS
    },
}


# The lstm's first run on TensorFlow takes five seconds of each version and signature.
DEAR = {
    ("lstm", question)
    for question in (
        "REST, version 1", "REST, label stable", "gRPC, version 1", "gRPC, signature core", "gRPC, signature static, 1 row",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def both(server: LocalServer, tensorflow_server: LocalServer) -> Iterator[tuple[Connection, Connection]]:
    for running, engine in ((server, "litert"), (tensorflow_server, "tensorflow")):
        with RestClient(running.rest_address) as rest:
            for model in MODELS:
                assert f"engine={engine}" in rest.headers(model)["x-model-server"]
    with Connection(server) as light, Connection(tensorflow_server) as tensorflow:
        yield light, tensorflow


@pytest.fixture(scope="module")
def subjects(exports) -> dict[str, Subject]:
    found = {}
    for model in MODELS:
        case = exports[model, 2].evidence.cases("serving_default")[0]
        ((name, rows),) = case.inputs.items()
        found[model] = Subject(model, name, next(iter(case.outputs)), rows[:17])
    return found


@pytest.mark.parametrize(
    ("model", "question"), [pytest.param(*cell, marks=pytest.mark.ci if cell in DEAR else ()) for cell in CELLS]
)
def test_both_engines_answer_the_same(model: str, question: str, both, subjects) -> None:
    subject = subjects[model]
    step = QUESTIONS[question](subject)
    light, tensorflow = (connection.ask(step) for connection in both)
    found = _difference(light, tensorflow)
    reason = DIFFERENT.get((model, question))
    if reason is None:
        assert not found, found
    elif reason not in _BY_PROCESSOR:
        assert found, f"no difference any more; take it out of DIFFERENT: {reason}"


def _difference(light: Step, tensorflow: Step) -> str:
    """What a client would notice, or an empty string."""
    both = f"LiteRT {_short(light)}, TensorFlow {_short(tensorflow)}"
    if (light.get("status"), light.get("code")) != (tensorflow.get("status"), tensorflow.get("code")):
        return f"codes: {both}"
    if light.get("status", 200) != 200 or light.get("code", "OK") != "OK":
        return f"words: {both}" if without_nodes(str(light)) != without_nodes(str(tensorflow)) else ""
    (one, values), (other, references) = (_parts(answer) for answer in (light, tensorflow))
    if one != other:
        return f"answers: {both}"
    off = smallest_tolerance(values, references)
    return "" if off <= (limits_for("float32").tolerance or 0) else f"values are off by {off:g}: {both}"


def _parts(answer: Step) -> tuple[Any, NDArray]:
    """A good answer's form, and the floats in it."""
    floats: list[float] = []

    def take(text: str) -> str:
        floats.append(float(text))
        return "a float"

    if "body" in answer:
        form = json.loads(answer["body"], parse_float=take, parse_constant=take)
    else:
        form = _FLOAT.sub(lambda found: take(found[1]), answer["message"])
    return form, np.array(floats)


def _short(answer: Step) -> str:
    return " ".join(str(answer)[:400].split())
