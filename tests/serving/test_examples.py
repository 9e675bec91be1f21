"""Inference on tf.Example: Classify, Regress, MultiInference and REST's verbs, on both engines, with the official stubs.

Recordings of the real server are in golden/, and more questions to both engines in test_both_engines.py.
"""

from __future__ import annotations

import json
import re
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest

from serving.client import GrpcClient, Refused, RestClient
from tests.serving.deadlines import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.local import LocalServer

pytestmark = pytest.mark.slow  # the official messages import TensorFlow

_NODES = re.compile(r"\{\{.*\}\}|\s*\[\[.*\]\]")  # where in its graph TensorFlow was


@pytest.fixture(scope="module")
def api() -> SimpleNamespace:
    import tensorflow as tf
    from tensorflow_serving.apis import (
        classification_pb2,
        inference_pb2,
        input_pb2,
        prediction_log_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    return SimpleNamespace(
        Example=tf.train.Example,
        Input=input_pb2.Input,
        Classification=classification_pb2.ClassificationRequest,
        Regression=regression_pb2.RegressionRequest,
        MultiInference=inference_pb2.MultiInferenceRequest,
        PredictionLog=prediction_log_pb2.PredictionLog,
        Stub=prediction_service_pb2_grpc.PredictionServiceStub,
    )


@pytest.fixture(params=["litert", "tensorflow"])
def asked(request: pytest.FixtureRequest) -> LocalServer:
    """A server of each engine."""
    return request.getfixturevalue("server" if request.param == "litert" else "tensorflow_server")


@pytest.fixture
def stub(api, asked: LocalServer) -> Iterator[Any]:
    with grpc.insecure_channel(asked.grpc_address) as channel:
        yield api.Stub(channel)


@pytest.fixture(scope="module")
def row(exports) -> list[float]:
    return exports["mlp", 2].evidence.cases("serving_default")[0].inputs["features"][0].tolist()


def example(api: SimpleNamespace, **features: list[Any]) -> Any:
    made = api.Example()
    for name, values in features.items():
        feature = made.features.feature[name]
        lists = {float: feature.float_list, int: feature.int64_list, bytes: feature.bytes_list}
        for value in values:
            lists[type(value)].value.append(value)
    return made


def fill(spec: Any, model: str, signature: str, version: int | None = None) -> None:
    spec.name, spec.signature_name = model, signature
    if version is not None:
        spec.version.value = version


def strings(*values: bytes) -> dict[str, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return {"inputs": array}


# ------------------------------------------------------------------------------------------------ good answers


@pytest.mark.parametrize("protocol", [RestClient, GrpcClient])
def test_litert_gives_the_evidence_of_classify_and_regress(protocol: Any, server: LocalServer, exports):
    with protocol(server.rest_address if protocol is RestClient else server.grpc_address) as client:
        for version in (1, 2):
            raw, expected = (
                exports["mlp", version].evidence.cases(name)[0] for name in ("serving_default", "classify")
            )
            answer = client.classify("mlp", raw.inputs, signature="classify", version=version)
            np.testing.assert_array_equal(answer["classes"], expected.outputs["classes"].astype(str))
            np.testing.assert_allclose(answer["scores"], expected.outputs["scores"], rtol=1e-5, atol=1e-5)
            raw, expected = (
                exports["lstm", version].evidence.cases(name)[0] for name in ("serving_default", "regress")
            )
            values = client.regress("lstm", raw.inputs, signature="regress", version=version)
            np.testing.assert_allclose(values, expected.outputs["outputs"][:, 0], rtol=1e-5)


def test_predict_takes_serialized_examples_as_strings(asked: LocalServer, exports):
    for model, signature in (("mlp", "classify"), ("lstm", "regress")):
        case = exports[model, 2].evidence.cases(signature)[0]
        for client in (RestClient(asked.rest_address), GrpcClient(asked.grpc_address)):
            with client:
                answer = client.predict(model, case.inputs, signature=signature)
            for name, expected in case.outputs.items():
                if expected.dtype == object:
                    np.testing.assert_array_equal(answer[name], expected)
                else:
                    np.testing.assert_allclose(answer[name], expected, rtol=1e-5, atol=1e-5)


def test_official_classify_and_regress_say_which_version_answered(api, stub, exports):
    features = exports["mlp", 2].evidence.cases("serving_default")[0].inputs["features"]
    scores = exports["mlp", 2].evidence.cases("classify")[0].outputs["scores"]
    request = api.Classification()
    fill(request.model_spec, "mlp", "classify")
    request.input.example_list.examples.extend(example(api, features=row.tolist()) for row in features[:3])
    answer = stub.Classify(request, timeout=20)
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("mlp", 2, "classify")
    rows = [[(c.label, c.score) for c in found.classes] for found in answer.result.classifications]
    assert [[label for label, _ in found] for found in rows] == [["malignant", "benign"]] * 3
    np.testing.assert_allclose([[score for _, score in found] for found in rows], scores[:3], rtol=1e-5, atol=1e-5)

    request = api.Regression()
    fill(request.model_spec, "lstm", "regress", version=2)
    series = exports["lstm", 2].evidence.cases("serving_default")[0].inputs["series"]
    request.input.example_list.examples.extend(example(api, series=row.ravel().tolist()) for row in series[:3])
    answer = stub.Regress(request, timeout=20)
    assert (answer.model_spec.version.value, answer.model_spec.signature_name) == (2, "regress")
    expected = exports["lstm", 2].evidence.cases("regress")[0].outputs["outputs"][:3, 0]
    np.testing.assert_allclose([found.value for found in answer.result.regressions], expected, rtol=1e-5)


def test_context_is_merged_into_every_example_and_the_example_wins(api, stub, row):
    def scores(request: Any) -> list[float]:
        return [found.classes[1].score for found in stub.Classify(request, timeout=20).result.classifications]

    zeros = [0.0] * len(row)
    alone, shared = api.Classification(), api.Classification()
    for request in (alone, shared):
        fill(request.model_spec, "mlp", "classify")
    alone.input.example_list.examples.extend([example(api, features=row), example(api, features=zeros)])
    within = shared.input.example_list_with_context
    within.context.CopyFrom(example(api, features=row, unused=[1]))
    within.examples.extend([example(api), example(api, features=zeros)])
    assert scores(shared) == scores(alone)


def test_multi_inference_answers_its_task(api, stub, row):
    request = api.MultiInference()
    task = request.tasks.add(method_name="tensorflow/serving/classify")
    fill(task.model_spec, "mlp", "classify")
    request.input.example_list.examples.append(example(api, features=row))
    (result,) = stub.MultiInference(request, timeout=20).results
    assert (result.model_spec.version.value, result.model_spec.signature_name) == (2, "classify")
    single = api.Classification(model_spec=task.model_spec, input=request.input)
    assert result.classification_result == stub.Classify(single, timeout=20).result


# ------------------------------------------------------------------------------------------------ Examples that do not fit

_FLOATS = struct.pack("<30f", *[1.0] * 30)
_PACKED = b"\x0a\x78" + _FLOATS  # field 1 of a FloatList, packed
_UNPACKED = b"".join(b"\x0d" + _FLOATS[i : i + 4] for i in range(0, 120, 4))


def wire(content: bytes, *, name: bytes = b"features", kind: int = 2) -> bytes:
    """An Example with one feature, by hand: what a protobuf library would not write. All lengths are below 16384."""

    def field(tag: bytes, data: bytes) -> bytes:
        return tag + (bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])) + data

    feature = field(bytes([kind << 3 | 2]), content)
    return field(b"\x0a", field(b"\x0a", field(b"\x0a", name) + field(b"\x12", feature)))


GOOD = wire(_PACKED)
MISSING = "Name: <unknown>, Feature: features (data type: float) is required but could not be found."
REFUSED = {
    "no bytes at all": (b"", MISSING),
    "another name": (wire(_PACKED, name=b"Features"), MISSING),
    "an empty list": (
        wire(b""),
        "Name: <unknown>, Key: features, Index: 1.  Number of float values != expected.  "
        "Values size: 0 but output shape: [30]",
    ),
    "too few values": (
        wire(b"\x0a\x04" + _FLOATS[:4]),
        "Name: <unknown>, Key: features, Index: 1.  Number of float values != expected.  "
        "Values size: 1 but output shape: [30]",
    ),
    "whole numbers": (
        wire(b"\x0a\x01\x01", kind=3),
        "Name: <unknown>, Key: features, Index: 1.  Data types don't match. Data type: int64 but expected type: float",
    ),
    "text": (
        wire(b"\x0a\x01a", kind=1),
        "Name: <unknown>, Key: features, Index: 1.  Data types don't match. Data type: string but expected type: float",
    ),
    "text instead of an Example": (b"hello world", "Could not parse example input, value: 'hello world'"),
    "bytes that are no text": (b"\xff\xfe\xfd", "Could not parse example input, value: '\ufffd\ufffd\ufffd'"),
    "another kind of list": (wire(_PACKED, kind=4), "Unsupported datatype."),
    "values that end too early": (
        wire(b"\x0a\x78" + _FLOATS[:50]),
        "Name: <unknown>, Key: features, Index: 1.  Can't parse serialized Example.",
    ),
    "a name without a feature": (b"\x0a\x0c\x0a\x0a\x0a\x08features", "Could not parse example input, value: '\n"),
    "the last of two features of that name": (
        GOOD + wire(b"\x0a\x01\x01", kind=3),
        "Name: <unknown>, Key: features, Index: 1.  Data types don't match. Data type: int64 but expected type: float",
    ),
}
TAKEN = {
    "packed": GOOD,
    "not packed": wire(_UNPACKED),
    "the first of two features of that name": wire(b"\x0a\x01\x01", kind=3) + GOOD,
    "the one of two features of that name that is not empty": GOOD + b"\x0a\x0e\x0a\x0c\x0a\x08features\x12\x00",
    "a name that is no text": GOOD + wire(b"", name=b"\xff\xfe", kind=7),
    "a feature too many": GOOD + wire(b"\x0a\x01a", name=b"more", kind=1),
    "a field that nobody knows": GOOD + b"\x1a\x01a",
}


@pytest.mark.parametrize("case", REFUSED)
def test_example_that_does_not_fit_is_refused_in_tensorflows_words(case: str, asked: LocalServer):
    data, message = REFUSED[case]
    with GrpcClient(asked.grpc_address) as client, pytest.raises(Refused) as error:
        client.predict("mlp", strings(GOOD, data), signature="classify")
    found = _NODES.sub("", error.value.message)
    assert error.value.code == "INVALID_ARGUMENT"
    assert found == message or (message.endswith("value: '\n") and found.startswith(message))


@pytest.mark.parametrize("case", TAKEN)
def test_example_that_a_library_would_not_write_is_read(case: str, asked: LocalServer):
    with GrpcClient(asked.grpc_address) as client:
        scores = client.predict("mlp", strings(GOOD, TAKEN[case]), signature="classify")["scores"]
    np.testing.assert_array_equal(scores[0], scores[1])


def test_examples_that_are_not_a_list_are_refused(asked: LocalServer):
    with GrpcClient(asked.grpc_address) as client, pytest.raises(Refused) as error:
        client.predict("mlp", {"inputs": strings(GOOD)["inputs"].reshape(1, 1)}, signature="classify")
    assert error.value.code == "INVALID_ARGUMENT"


def test_no_examples_by_predict_give_no_rows(asked: LocalServer):
    with GrpcClient(asked.grpc_address) as client:
        answer = client.predict("mlp", strings(), signature="classify")
    assert {name: array.shape for name, array in answer.items()} == {"classes": (0, 2), "scores": (0, 2)}


# ------------------------------------------------------------------------------------------------ JSON that does not fit

BODIES = [
    ('{"examples": []}', "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
    ('{"examples": [[1.0]]}', "Example must be JSON object but got JSON Array"),
    ('{"context": 1.0, "examples": [{}]}', "Example must be JSON object but got JSON Number"),
    ('{"examples": [{"x": [[1.0]]}]}', "Feature: x has element with unexpected JSON type: Array"),
    ('{"examples": [{"x": {"c64": "eg=="}}]}', "Feature: x has element with unexpected JSON type: Object"),
    ('{"examples": [{"x": {"b64": 1}}]}', "Feature: x has element with unexpected JSON type: Object"),
    ('{"examples": [{"x": {"b64": "*"}}]}', "Unable to base64 decode"),
    ('{"examples": [{"x": 9223372036854775808}]}', "Feature: x has uint64 element. Only int64 is supported."),
    ('{"examples": [{"x": [1.5, true]}]}', "Unexpected element type in feature: x expecting type: float"),
    ('{"examples": [{"x": ["a", 1]}]}', "Unexpected element type in feature: x expecting type: bytes"),
    ('{"examples": [{"features": []}]}', MISSING),
    (
        '{"examples": [{"features": 123456789012345678901234567890}]}',  # beyond 64 bits a whole number is a decimal one
        "Name: <unknown>, Key: features, Index: 0.  Number of float values != expected.  "
        "Values size: 1 but output shape: [30]",
    ),
    (
        '{"examples": [{"features": false}]}',
        "Name: <unknown>, Key: features, Index: 0.  Data types don't match. Data type: int64 but expected type: float",
    ),
    (
        '{"signature_name": 1, "examples": [{}]}',
        'JSON Value: {\n    "signature_name": 1,\n    "examples": [{}]\n} not formatted correctly. '
        "'signature_name' key must be a string value.",
    ),
]


@pytest.mark.parametrize(("body", "message"), BODIES)
def test_json_that_is_no_example_is_refused_in_tf_servings_words(body: str, message: str, server: LocalServer):
    if '"signature_name"' not in body:
        body = f'{{"signature_name": "classify", {body[1:]}'
        message = message.replace('{\n    "examples"', '{\n    "signature_name": "classify",\n    "examples"')
    answer = httpx.post(f"http://{server.rest_address}/v1/models/mlp:classify", content=body, trust_env=False)
    assert (answer.status_code, answer.json()) == (400, {"error": message})


@pytest.mark.parametrize("feature", ['"\\ud800"', '{"b64": "eg=="}', "[NaN]", "-9223372036854775808", "1e400"])
def test_odd_values_are_read_and_the_next_request_is_answered(feature: str, server: LocalServer, row):
    url = f"http://{server.rest_address}/v1/models/mlp:classify"
    body = f'{{"signature_name": "classify", "examples": [{{"other": {feature}, "features": {json.dumps(row)}}}]}}'
    answer = httpx.post(url, content=body, trust_env=False)
    assert answer.status_code == (400 if "ud800" in feature or "1e400" in feature else 200), answer.text


# ------------------------------------------------------------------------------------------------ methods and versions


def test_signature_method_name_check_wants_the_method(api, serve, add_version, row):
    add_version(2)
    running = serve("all {}", "--enable_signature_method_name_check")
    with GrpcClient(running.grpc_address) as client:
        assert client.classify("mlp", {"features": np.array([row])}, signature="classify")["scores"].shape == (1, 2)
        for call, noun in ((client.regress, "regression"), (client.classify, "classification")):
            wrong = "serving_default" if noun == "classification" else "classify"
            with pytest.raises(Refused, match=f"Expected {noun} signature method_name to be .* Was: ") as error:
                call("mlp", {"features": np.array([row])}, signature=wrong)
            assert error.value.code == "INVALID_ARGUMENT"


def test_session_run_is_no_method_of_a_model_server(server: LocalServer):
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
        with pytest.raises(grpc.RpcError) as error:
            call(b"", timeout=10)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_version_whose_litert_json_does_not_fit_is_not_served(serve, add_version, base: Path):
    add_version(1)
    running = serve()
    with GrpcClient(running.grpc_address) as client:
        for version, content in ((2, "{"), (3, '{"schema": 1, "signatures": {"serving_default": {}}}')):
            staged = add_version(version, of=1).rename(base.parent / "changed")
            (staged / "litert.json").unlink()  # the published file may be the same one
            (staged / "litert.json").write_text(content)
            staged.rename(base / str(version))
            wait_for(lambda v=version: state(client, v) == "END", "the version is refused")
            message = next(row for row in client.status("mlp") if row["version"] == version)["error_message"]
            assert "litert.json does not fit saved_model.pb and model.tflite beside it" in message
            assert "publish the version again" in message
        assert state(client, 1) == "AVAILABLE"


def test_version_without_litert_json_leaves_examples_to_tensorflow(serve, add_version, row):
    (add_version(1) / "litert.json").unlink()
    running = serve()
    with GrpcClient(running.grpc_address) as client:
        with pytest.raises(Refused, match='install it with the extra "tensorflow"') as error:
            client.classify("mlp", {"features": np.array([row])}, signature="classify")
        assert error.value.code == "FAILED_PRECONDITION"


def test_warm_up_replays_examples_and_refuses_a_version_that_cannot_answer(api, serve, add_version, base, row):
    add_version(1)
    running = serve()
    logs = {"fits": example(api, features=row), "does not": example(api, features=row[:1])}
    with GrpcClient(running.grpc_address) as client:
        for version, (name, made) in enumerate(logs.items(), start=2):
            log = api.PredictionLog()
            fill(log.classify_log.request.model_spec, "mlp", "classify")
            log.classify_log.request.input.example_list.examples.append(made)
            staged = add_version(version, of=1).rename(base.parent / "changed")
            write_records(staged / "assets.extra" / "tf_serving_warmup_requests", log.SerializeToString())
            staged.rename(base / str(version))
            expected = "AVAILABLE" if name == "fits" else "END"
            wait_for(lambda v=version, e=expected: state(client, v) == e, f"version {version} is {expected}")
        assert "Values size: 1 but output shape: [30]" in client.status("mlp")[0]["error_message"]


def state(client: GrpcClient, version: int) -> str:
    return next((row["state"] for row in client.status("mlp") if row["version"] == version), "")


def write_records(file: Path, *records: bytes) -> None:
    import tensorflow as tf

    file.unlink(missing_ok=True)
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
