"""The questions that both engines are asked, as functions of a model: what to send, by REST or gRPC, right and wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import text_format
from model_server import protos
from model_server.tensors import to_proto

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tests.serving.golden_replay import Step

    Question = Callable[["Subject"], Step]

MODELS = ("mlp", "cnn", "lstm", "transformer")
INFERENCE = {"mlp": "classify", "lstm": "regress"}  # the models with a signature on tf.Example, and its name


@dataclass(frozen=True)
class Subject:
    """A model with rows of its evidence."""

    model: str
    input: str
    output: str
    rows: NDArray

    def row(self, fill: float) -> NDArray:
        """One row with its first value replaced; numbers that the model's dtype does not have need another one."""
        row = self.rows[:1].copy() if self.rows.dtype.kind == "f" else self.rows[:1].astype(np.float64)
        row.flat[0] = fill
        return row


def post(body: Any, path: str = "", verb: str = "predict") -> Question:
    """A REST request; ``body`` is text, JSON, or made from the subject. Without ``verb``, classify or regress."""

    def ask(subject: Subject) -> Step:
        content = body(subject) if callable(body) else body
        text = content if isinstance(content, str) else json.dumps(content)
        asked = verb or INFERENCE[subject.model]
        return {"rest": f"POST /v1/models/{subject.model}{path}:{asked}", "request": text}

    return ask


def get(path: str) -> Question:
    return lambda subject: {"rest": f"GET /v1/models/{subject.model}{path}"}


def rpc(method: str, spec: str = "", more: str = "") -> Question:
    """A gRPC request that needs no tensor, in text format."""
    return lambda subject: {"grpc": method, "request": f'model_spec {{ name: "{subject.model}" {spec} }} {more}'}


def predict(
    inputs: Callable[[Subject], dict[str, NDArray]], *, model: str = "", spec: str = "", outputs: tuple[str, ...] = ()
) -> Question:
    """A gRPC Predict. In ``outputs`` OUTPUT stands for the model's own."""

    def ask(subject: Subject) -> Step:
        request = protos.PredictRequest()
        text_format.Parse(f'model_spec {{ name: "{model or subject.model}" {spec} }}', request)
        for name, array in inputs(subject).items():
            to_proto(array, request.inputs[name])
        request.output_filter.extend([subject.output if name == "OUTPUT" else name for name in outputs])
        return {"grpc": "Predict", "request": text_format.MessageToString(request, as_one_line=True)}

    return ask


def examples(
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict, count: int = 2, verb: str = "", signature: str = ""
) -> Question:
    """A REST classify or regress of rows as tf.Example; ``change`` alters each example."""

    def ask(subject: Subject) -> Step:
        name = INFERENCE[subject.model]
        body = {
            "signature_name": signature or name,
            "examples": [change({subject.input: row.ravel().tolist()}) for row in subject.rows[:count]],
        }
        return {"rest": f"POST /v1/models/{subject.model}:{verb or name}", "request": json.dumps(body)}

    return ask


def example_list(method: str = "", more: str = "", count: int = 2, signature: str = "") -> Question:
    """The same by gRPC; ``more`` is a feature that each example has beside its own."""

    def ask(subject: Subject) -> Step:
        name = INFERENCE[subject.model]
        listed = "".join(
            f'examples {{ features {{ feature {{ key: "{subject.input}" value {{ float_list {{ '
            f"value: {row.ravel().tolist()} }} }} }} {more} }} }} "
            for row in subject.rows[:count]
        )
        spec = f'model_spec {{ name: "{subject.model}" signature_name: "{signature or name}" }}'
        return {"grpc": method or name.capitalize(), "request": f"{spec} input {{ example_list {{ {listed} }} }}"}

    return ask


def serialized(subject: Subject) -> NDArray:
    """Two rows as serialized tf.Examples: what a signature on tf.Example takes from Predict."""
    found = []
    for row in subject.rows[:2]:
        example = protos.Example()
        example.features.feature[subject.input].float_list.value.extend(row.ravel().tolist())
        found.append(example.SerializeToString())
    return np.array(found, object)


def predict_examples(inputs: Callable[[Subject], NDArray], outputs: tuple[str, ...] = ()) -> Question:
    """A gRPC Predict of the signature on tf.Example."""

    def ask(subject: Subject) -> Step:
        spec = f'signature_name: "{INFERENCE[subject.model]}"'
        return predict(lambda s: {"inputs": inputs(s)}, spec=spec, outputs=outputs)(subject)

    return ask


def multi_inference(subject: Subject) -> Step:
    name = INFERENCE[subject.model]
    single = example_list()(subject)["request"]
    task, given = single.split(" input ", 1)
    return {
        "grpc": "MultiInference",
        "request": f'tasks {{ {task} method_name: "tensorflow/serving/{name}" }} input {given}',
    }


def first(count: int) -> Callable[[Subject], dict[str, NDArray]]:
    return lambda subject: {subject.input: subject.rows[:count]}


def changed(change: Callable[[NDArray], NDArray]) -> Callable[[Subject], dict[str, NDArray]]:
    """Two rows after ``change``, by the input's name."""
    return lambda subject: {subject.input: change(subject.rows[:2])}


def special(value: float) -> Callable[[Subject], dict[str, NDArray]]:
    return lambda subject: {subject.input: subject.row(value)}


def instances(change: Callable[[NDArray], NDArray]) -> Callable[[Subject], Any]:
    return lambda subject: {"instances": change(subject.rows[:2]).tolist()}


SHAPES: dict[str, Callable[[NDArray], NDArray]] = {
    "one value too many": lambda rows: np.concatenate([rows, rows[:, :1]], axis=1),
    "one value too few": lambda rows: rows[:, :-1],
    "one value a row": lambda rows: rows[:, :1],
    "no value a row": lambda rows: rows[:, :0],
    "no batch axis": lambda rows: rows[0],
    "an axis too many": lambda rows: rows[..., np.newaxis],
    "a scalar": lambda rows: rows.ravel()[0],
}
DTYPES: dict[str, Callable[[NDArray], NDArray]] = {
    "double": lambda rows: rows.astype(np.float64),
    "half": lambda rows: rows.astype(np.float16),
    "int64": lambda rows: rows.astype(np.int64),
    "the other number": lambda rows: rows.astype(np.float32 if rows.dtype.kind == "i" else np.int32),
    "bool": lambda rows: rows.astype(np.bool_),
    "string": lambda rows: rows.astype(bytes).astype(object),
}
BAD_JSON = {
    "nothing": "",
    "a brace": "{",
    "a list": "[1.0]",
    "no key": "{}",
    "both keys": '{"instances": [1.0], "inputs": [1.0]}',
    "a bare word": '{"instances": [yes]}',
    "no value": '{"instances": }',
    "instances is a number": '{"instances": 1.0}',
    "instances is empty": '{"instances": []}',
    "a string": '{"instances": ["x"]}',
    "true": '{"instances": [[true]]}',
    "null": '{"instances": [null]}',
    "base64": '{"instances": [{"b64": "aGVsbG8="}]}',
    "bad base64": '{"instances": [{"b64": "@@@@"}]}',
    "too large a number": '{"instances": [1e400]}',
    "a signature that is a number": '{"signature_name": 1, "instances": [1.0]}',
    "inputs is a string": '{"inputs": "x"}',
}
SPECIAL: dict[str, float] = {
    "NaN": np.nan,
    "Infinity": np.inf,
    "-Infinity": -np.inf,
    "largest float": float(np.finfo(np.float32).max),
}

QUESTIONS: dict[str, Question] = {
    **{
        f"REST, {key}, {count} rows": post(lambda s, key=key, count=count: {key: s.rows[:count].tolist()})
        for key in ("instances", "inputs")
        for count in (1, 2, 3, 17)
    },
    "REST, instances by name": post(lambda s: {"instances": [{s.input: row} for row in s.rows[:3].tolist()]}),
    "REST, inputs by name": post(lambda s: {"inputs": {s.input: s.rows[:3].tolist()}}),
    "REST, inputs is an empty list": post({"inputs": []}),
    **{f"gRPC, {count} rows": predict(first(count)) for count in (0, 1, 2, 3, 17)},
    "REST, version 1": post(lambda s: {"instances": s.rows[:2].tolist()}, path="/versions/1"),
    "REST, label stable": post(lambda s: {"instances": s.rows[:2].tolist()}, path="/labels/stable"),
    "gRPC, version 1": predict(first(2), spec="version { value: 1 }"),
    "gRPC, label canary": predict(first(2), spec='version_label: "canary"'),
    "gRPC, signature static, 1 row": predict(first(1), spec='signature_name: "static"'),
    "gRPC, signature static, 2 rows": predict(first(2), spec='signature_name: "static"'),
    "gRPC, signature core": predict(first(1), spec='signature_name: "core"'),
    "gRPC, signature by its name": predict(first(1), spec='signature_name: "serving_default"'),
    "gRPC, output_filter": predict(first(2), outputs=("OUTPUT",)),
    # what is not there
    "REST, unknown version": post(instances(np.copy), path="/versions/9"),
    "REST, unknown label": post(instances(np.copy), path="/labels/none"),
    "REST, unknown signature": post(lambda s: {"signature_name": "none", "instances": s.rows[:1].tolist()}),
    "REST, unknown verb": post(instances(np.copy), verb="explain"),
    "gRPC, unknown model": predict(first(1), model="none"),
    "gRPC, unknown version": predict(first(1), spec="version { value: 9 }"),
    "gRPC, unknown label": predict(first(1), spec='version_label: "none"'),
    "gRPC, unknown signature": predict(first(1), spec='signature_name: "none"'),
    "gRPC, unknown output": predict(first(1), outputs=("none",)),
    "gRPC, an output twice": predict(first(1), outputs=("OUTPUT", "OUTPUT")),
    # names
    "REST, instances, wrong name": post(lambda s: {"instances": [{"none": s.rows[0].tolist()}]}),
    "REST, instances, a name too many": post(
        lambda s: {"instances": [{s.input: s.rows[0].tolist(), "more": [1.0]}]}
    ),
    "REST, inputs, wrong name": post(lambda s: {"inputs": {"none": s.rows[:1].tolist()}}),
    "REST, inputs, a name too many": post(lambda s: {"inputs": {s.input: s.rows[:1].tolist(), "more": [1.0]}}),
    "REST, inputs, no name": post({"inputs": {}}),
    "gRPC, wrong name": predict(lambda s: {"none": s.rows[:1]}),
    "gRPC, a name too many": predict(lambda s: {s.input: s.rows[:1], "more": s.rows[:1]}),
    "gRPC, no input": predict(lambda s: {}),
    # shapes, dtypes, values
    **{f"REST, shape: {name}": post(instances(change)) for name, change in SHAPES.items() if name != "a scalar"},
    **{f"REST, inputs, shape: {name}": post(lambda s, c=change: {"inputs": c(s.rows[:2]).tolist()})
       for name, change in SHAPES.items()},
    **{f"gRPC, shape: {name}": predict(changed(change)) for name, change in SHAPES.items()},
    "REST, ragged": post(lambda s: {"instances": [s.rows[0].tolist(), s.rows[1].tolist()[:-1]]}),
    **{f"gRPC, dtype: {name}": predict(changed(change)) for name, change in DTYPES.items()},
    "REST, numbers with a point": post(lambda s: {"inputs": (s.rows[:1] + 0.5).tolist()}),
    **{f"REST, {name}": post(body) for name, body in BAD_JSON.items()},
    **{f"gRPC, {name}": predict(special(value)) for name, value in SPECIAL.items()},
    **{f"REST, {name}": post(lambda s, v=value: {"instances": s.row(v).tolist()}) for name, value in SPECIAL.items()},
    # metadata and status
    "REST, metadata": get("/metadata"),
    "REST, metadata of version 1": get("/versions/1/metadata"),
    "REST, metadata of an unknown version": get("/versions/9/metadata"),
    "REST, status": get(""),
    "REST, status of version 1": get("/versions/1"),
    "REST, status of an unknown version": get("/versions/9"),
    "REST, malformed": get("/none"),
    "gRPC, metadata": rpc("GetModelMetadata", more='metadata_field: "signature_def"'),
    "gRPC, metadata without a field": rpc("GetModelMetadata"),
    "gRPC, metadata of an unknown field": rpc("GetModelMetadata", more='metadata_field: "x"'),
    "gRPC, status": rpc("GetModelStatus"),
    "gRPC, status of version 1": rpc("GetModelStatus", "version { value: 1 }"),
    "gRPC, status of an unknown version": rpc("GetModelStatus", "version { value: 9 }"),
}  # fmt: skip
EXAMPLES: dict[str, Question] = {
    "REST Example, 1 example": examples(count=1),
    "REST Example, 17 examples": examples(count=17),
    "REST Example, no example": examples(count=0),
    "REST Example, a feature too many": examples(lambda example: {**example, "more": [1.0]}),
    "REST Example, a feature missing": examples(lambda example: {}),
    "REST Example, a feature of whole numbers": examples(
        lambda example: {name: [1] * len(v) for name, v in example.items()}
    ),
    "REST Example, a feature of strings": examples(
        lambda example: {name: ["a"] * len(v) for name, v in example.items()}
    ),
    "REST Example, a feature too short": examples(lambda example: {name: v[:-1] for name, v in example.items()}),
    "REST Example, a feature too long": examples(lambda example: {name: v + v[:1] for name, v in example.items()}),
    "REST Example, context": post(
        lambda s: {
            "signature_name": INFERENCE[s.model],
            "context": {s.input: s.rows[0].ravel().tolist()},
            "examples": [{}, {"more": "text"}],
        },
        verb="",
    ),
    "REST Example, unknown signature": examples(signature="none"),
    "REST Example, a signature for predict": examples(signature="serving_default"),
    "REST Example, predict of examples": post(
        lambda s: {"signature_name": INFERENCE[s.model], "inputs": ["no example"]}
    ),
    "gRPC Example, 1 example": example_list(count=1),
    "gRPC Example, 17 examples": example_list(count=17),
    "gRPC Example, no example": example_list(count=0),
    "gRPC Example, a feature too many": example_list(more='feature { key: "more" value { int64_list { value: 1 } } }'),
    "gRPC Example, unknown signature": example_list(signature="none"),
    "gRPC Example, a signature for predict": example_list(signature="serving_default"),
    "gRPC Example, multi-inference": multi_inference,
    "gRPC Example, predict": predict_examples(serialized),
    "gRPC Example, predict, no row": predict_examples(lambda s: serialized(s)[:0]),
    "gRPC Example, predict, an axis too many": predict_examples(lambda s: serialized(s)[:, np.newaxis]),
    "gRPC Example, predict, no example": predict_examples(lambda s: np.array([b"no example"], object)),
    "gRPC Example, predict, an empty example": predict_examples(lambda s: np.array([b""], object)),
    "gRPC Example, predict, a dtype that does not fit": predict_examples(lambda s: s.rows[:2]),
    "gRPC Example, predict, unknown output": predict_examples(serialized, outputs=("none",)),
}
STRINGS: dict[str, Question] = {
    "gRPC, strings": predict(
        lambda s: {"text": np.array([b"Guten Morgen"], object)}, spec='signature_name: "from_text"'
    ),
    "REST, strings": post({"signature_name": "from_text", "instances": ["Guten Morgen"]}),
}


# Who is asked what. gRPC sends a dtype, and whole numbers have no NaN.
CELLS = [
    *((m, q) for m in MODELS for q in QUESTIONS if not (m == "transformer" and q in {f"gRPC, {v}" for v in SPECIAL})),
    *((m, q) for m in INFERENCE for q in EXAMPLES),
    *(("transformer", q) for q in STRINGS),
]
QUESTIONS |= EXAMPLES | STRINGS
