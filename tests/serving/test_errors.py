"""Errors: TF Serving's codes and words, over both protocols and on the wire."""

from __future__ import annotations

import gzip
import json

import httpx
import numpy as np
import pytest

from serving.client.errors import Refused, TimedOut, Unreachable
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient

ROW = {"features": np.ones((1, 30), np.float32)}
# what is asked · code and message by REST · code and message by gRPC
TABLE = [
    ("unknown model", {"model": "nosuch"}, "NOT_FOUND", "Servable not found for request: Latest(nosuch)", "", ""),
    ("unknown version", {"version": 9}, "NOT_FOUND", "Servable not found for request: Specific(mlp, 9)", "", ""),
    ("unknown label", {"label": "L"}, "INVALID_ARGUMENT", "Unrecognized servable version label: L", "", ""),
    (
        "unknown signature", {"signature": "S"},
        "INVALID_ARGUMENT", 'Serving signature name: "S" not found in signature def',
        "FAILED_PRECONDITION", 'Serving signature key "S" not found.',
    ),
    (
        "missing input", {"inputs": {}},
        "INVALID_ARGUMENT", "Missing named input: features in 'inputs' object.",
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({features}). "
        "Sent extra: {}. Missing but required: {features}.",
    ),
    (
        "wrong shape", {"inputs": {"features": np.ones((1, 7), np.float32)}},
        "INVALID_ARGUMENT", "input features has the shape [1,7], but the model takes [?,30]", "", "",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "asked", "code", "message", "grpc_code", "grpc_message"), TABLE, ids=[t[0] for t in TABLE]
)
def test_error_has_the_servers_code_and_words(case, asked, code, message, grpc_code, grpc_message, rest, grpc):
    call = {"model": "mlp", "inputs": ROW, **asked}
    for client, expected in ((rest, (code, message)), (grpc, (grpc_code or code, grpc_message or message))):
        with pytest.raises(Refused) as error:
            client.predict(**call)
        assert (error.value.code, error.value.message) == expected


def test_signature_that_only_tensorflow_answers_names_the_extra(rest: RestClient, grpc: GrpcClient):
    text = {"text": np.array([b"x"], object)}
    for client, code in ((rest, "INVALID_ARGUMENT"), (grpc, "FAILED_PRECONDITION")):  # by REST both are 400
        with pytest.raises(Refused, match='install it with the extra "tensorflow"') as error:
            client.predict("transformer", text, signature="from_text")
        assert error.value.code == code


def test_wrong_dtype_by_grpc_names_both(grpc: GrpcClient):
    with pytest.raises(Refused, match="input features is of dtype double, but signature serving_default takes float"):
        grpc.predict("mlp", {"features": np.ones((1, 30))})


def test_nobody_listening_names_the_address(free_port):
    address = f"127.0.0.1:{free_port()}"
    for client in (RestClient(address), GrpcClient(address)):
        with client, pytest.raises(Unreachable, match=f"no server answers at {address}"):
            client.status("mlp")


def test_deadline_is_an_error_of_its_own(rest: RestClient):
    with pytest.raises(TimedOut, match="no answer within"):
        rest.predict("mlp", {"features": np.ones((20000, 30), np.float32)}, timeout=1e-4)


def post(server, body: bytes | str, path: str = "/v1/models/mlp:predict", **headers: str) -> httpx.Response:
    return httpx.post(f"http://{server.rest_address}{path}", content=body, headers=headers, trust_env=False)


BODIES = [
    ("", 400, "JSON Parse error: The document is empty"),
    ("{}", 400, "Missing 'inputs' or 'instances' key"),
    ("[1.0, 2.0]", 400, "JSON Value: [1.0, 2.0] Is not object"),
    ('{"instances": [[1.0, 2.0', 400, "JSON Parse error: Missing a comma or ']' after an array element. at offset: 24"),
    (
        '{"instances": 1.0}', 400,
        'JSON Value: {\n    "instances": 1.0\n} Expecting \'instances\' to be an list/array',
    ),
    (
        '{"instances": [1.0], "inputs": [1.0]}', 400,
        'JSON Value: {\n    "instances": [1.0],\n    "inputs": [1.0]\n} Not formatted correctly expecting only one of '
        "'inputs' or 'instances' keys to exist ",
    ),
    (
        '{"instances": [{"zz": 1.0}]}', 400,
        "Failed to process element: 0 key: zz of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON object: does not have named input: zz",
    ),
    (
        '{"instances": ["x"]}', 400,
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "x" Type: String is not of expected type: float',
    ),
    (
        f'{{"inputs": {"[" * 70}1.0{"]" * 70}}}',
        400,
        "lists are nested 70 deep, and no tensor has more than 64 dimensions",
    ),
    ("[" * 900 + "]" * 900, 400, "JSON Parse error: the value is nested too deeply"),
    ('{"instances": [[1.0, 1' + "0" * 400 + "]]}", 400, "JSON Parse error: Number too big to be stored in double."),
    ('{"inputs": NaN, "x": ' + "1" * 5000 + "}", 400, "JSON Parse error: Number too big to be stored in double."),
    ('{"inputs": [[1.0, 2.0], [3.0]]}', 400, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "message"), BODIES)
def test_bad_body_is_answered_in_tf_servings_words(body, status, message, server):
    answer = post(server, body)
    assert (answer.status_code, answer.json()) == (status, {"error": message})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("GET", "/v1/models/mlp:predict", 400, "Malformed request: GET /v1/models/mlp:predict"),
        ("DELETE", "/v1/models/mlp", 400, "Malformed request: DELETE /v1/models/mlp"),
        ("POST", "/v1/models/mlp:PREDICT", 400, "Malformed request: POST /v1/models/mlp:PREDICT"),
        ("GET", "/v1/models/mlp?a=b", 404, "Could not find any versions of model mlp?a=b"),
        ("GET", "/v1/models/mlp/versions/9", 404, "Could not find version 9 of model mlp"),
    ],
)
def test_path_that_does_not_fit(method, path, status, message, server):
    answer = httpx.request(method, f"http://{server.rest_address}{path}", trust_env=False)
    assert (answer.status_code, answer.json()) == (status, {"error": message})


@pytest.mark.parametrize("verb", ["", ":predict"])
def test_version_beyond_int64_is_400_with_an_empty_body(verb, server):
    for version in (str(1 << 63), "9" * 5000):
        path = f"/v1/models/mlp/versions/{version}{verb}"
        answer = httpx.request("POST" if verb else "GET", f"http://{server.rest_address}{path}", trust_env=False)
        assert (answer.status_code, answer.content) == (400, b"")


def test_row_format_column_format_and_gzip_give_the_same_numbers(server, exports):
    case = exports["mlp", 2].evidence.cases("serving_default")[0]
    rows = case.inputs["features"][:3].tolist()
    by_row = post(server, json.dumps({"instances": rows})).json()["predictions"]
    named = post(server, json.dumps({"instances": [{"features": row} for row in rows]})).json()["predictions"]
    by_column = post(server, json.dumps({"inputs": {"features": rows}})).json()["outputs"]
    packed = gzip.compress(json.dumps({"instances": rows}).encode())
    unpacked = post(server, packed, **{"content-encoding": "gzip"}).json()["predictions"]
    assert by_row == named == by_column == unpacked
    np.testing.assert_allclose(by_row, case.outputs["probability"][:3], rtol=1e-5, atol=1e-5)


def test_nan_and_infinity_are_numbers_both_ways(server):
    row = ["NaN", "Infinity", "-Infinity", *["1.0"] * 27]
    answer = post(server, f'{{"inputs": [[{", ".join(row)}]]}}')
    assert answer.status_code == 200
    assert "NaN" in answer.text


def test_large_request_is_answered(server):
    rows = np.full((20000, 30), 0.5, np.float32)
    answer = post(server, json.dumps({"instances": rows.tolist()}))
    assert len(answer.json()["predictions"]) == 20000
