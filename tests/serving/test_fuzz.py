"""Fuzzing: whatever comes in is answered or refused, and never with a traceback, a crash, or the server's own fault.

The same draws each time in `make test`, new ones in `make test-all`, and in `make fuzz SECONDS=600` for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import requests
import schemathesis
import yaml
from google.protobuf.message import DecodeError
from hypothesis import strategies as st
from model_server.connection import Limits
from model_server.errors import ServingError
from model_server.example_parser import Feature, parse
from model_server.examples import feed
from model_server.grpc_frames import Requests, framed, seconds, unframed
from model_server.json_answers import columns as written_columns
from model_server.json_answers import predictions
from model_server.json_examples import serialized_examples
from model_server.json_parse import parse_body
from model_server.json_tensors import columns, rows
from model_server.protos import ExamplesRequest, PredictRequest, TensorProto
from model_server.reflection import Reflection
from model_server.tensors import BY_DTYPE, KINDS, from_proto, tensor_bytes, varint
from schemathesis import GenerationMode

from serving.launch import SERVER
from serving.local import local_server
from tests.serving.fuzzing import (
    DRAWN_SEED,
    ENGINE,
    FIXED_SEED,
    ROUNDS,
    SECONDS,
    SEED_VARIABLE,
    TEXTS,
    VALUES,
    Fuzzer,
    bodies,
    mutated,
    nearly_right_bodies,
    nearly_right_requests,
    predict_requests,
    tensors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serving.local import LocalServer

pytestmark = pytest.mark.slow

ROW = b'{"instances": [[%s]]}' % b", ".join([b"0.5"] * 30)
BODIES = (
    ROW,
    b'{"signature_name": "serving_default", "inputs": {"features": [[1, 2.5, -3e7], [NaN, Infinity, -Inf]]}}',
    b'\xef\xbb\xbf{"instances": [{"b64": "aGVsbG8="}, "\\ud83d\\ude00", true, null, {"a": {"b": []}}]}',
    b'{"context": {"x": 1}, "examples": [{"age": [20, 21], "name": ["a"], "w": 0.5, "p": {"b64": "AA=="}}]}',
)
HEAD = b"POST /v1/models/mlp:predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
HTTP = (
    HEAD % len(ROW) + b"\r\n" + ROW,
    b"GET /v1/models/mlp/versions/2/metadata HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" * 2,
    HEAD % 9 + b"Content-Encoding: gzip\r\nExpect: 100-continue\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0",
    b"POST /v1/models/mlp:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"in\r\n0\r\nA: b\r\n\r\n",
    b"OPTIONS /v1/models/%C3%A4/labels/%00 HTTP/1.0\r\nOrigin: https://a\r\nUpgrade: websocket\r\n\r\n",
)  # fmt: skip


@pytest.fixture(scope="module")
def target(repository_folder) -> Iterator[LocalServer]:
    flags = ("--prefer_tflite_model=false",) if ENGINE == "tensorflow" else ()
    with local_server(repository_folder / "models.config", engine=ENGINE, flags=flags) as running:
        yield running
        assert running.process.poll() is None
        assert "Traceback" not in running.log.read_text(errors="replace")


@pytest.fixture(params=["fixed", pytest.param("drawn", marks=pytest.mark.exhaustive)])
def fuzz(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Fuzzer:
    fuzzer = Fuzzer(FIXED_SEED, ROUNDS) if request.param == "fixed" else Fuzzer(DRAWN_SEED, seconds=SECONDS)
    record_property(SEED_VARIABLE, fuzzer.seed)
    return fuzzer


# ------------------------------------------------------------------ in this process


def test_json_bodies_parse_or_are_refused(fuzz):
    def check(body: bytes) -> None:
        with contextlib.suppress(ServingError, RecursionError):
            assert isinstance(parse_body(body), dict)

    fuzz(mutated(BODIES) | st.binary(max_size=60), check)


def test_json_values_become_tensors_or_are_refused(fuzz):
    def check(drawn: tuple[dict[str, Any], dict[str, int]]) -> None:
        request, inputs = drawn
        for read, key in ((rows, "instances"), (columns, "inputs")):
            if key not in request:
                continue
            with contextlib.suppress(ServingError):
                found = read(request if read is rows else request[key], inputs)
                for name, array in found.items():
                    assert BY_DTYPE[array.dtype].enum == inputs[name]

    dtypes = st.dictionaries(st.sampled_from(["features", "tokens", "b64", ""]), st.sampled_from(KINDS).map(lambda k: k.enum), min_size=1, max_size=2)  # fmt: skip
    fuzz(st.tuples(bodies(), dtypes), check)


def test_json_examples_become_examples_or_are_refused(fuzz):
    def check(request: dict[str, Any]) -> None:
        with contextlib.suppress(ServingError):
            serialized, context = serialized_examples(request)
            assert all(isinstance(example, bytes) for example in [*serialized, context])

    fuzz(bodies() | st.fixed_dictionaries({"examples": st.lists(st.dictionaries(TEXTS, VALUES), max_size=3)}), check)


def test_tensor_protos_decode_or_are_refused(fuzz):
    def check(tensor: Any) -> None:
        with contextlib.suppress(ServingError):
            array = from_proto(tensor, "x")
            assert array.shape == tuple(dim.size for dim in tensor.tensor_shape.dim)
            again = from_proto(TensorProto.FromString(tensor_bytes(array)), "x")
            assert array.dtype == again.dtype
            assert array.tolist() == again.tolist() or not np.array_equal(array, array)  # NaN

    fuzz(tensors(), check)


@pytest.mark.parametrize("sizes", [(1 << 29, 0), (0, 1 << 62, 1 << 62), (1 << 29,), (1 << 40,), (-1,), (1,) * 65])
def test_shape_that_nothing_was_sent_for_is_refused(sizes):
    tensor = TensorProto(dtype=1)
    for size in sizes:
        tensor.tensor_shape.dim.add().size = size
    with pytest.raises(ServingError, match="tensor parsing error: x"):
        from_proto(tensor, "x")


def test_written_answers_are_json_whatever_the_values(fuzz):
    def check(tensor: Any) -> None:
        with contextlib.suppress(ServingError):
            array = from_proto(tensor, "x")
            if array.size < 10_000:
                for write in (predictions, written_columns):
                    with contextlib.suppress(ServingError):
                        json.loads(write({"x": array}).decode("utf-8", "replace"), strict=False)

    fuzz(tensors(), check)


def test_example_requests_decode_or_are_refused(fuzz):
    original = ExamplesRequest()
    original.model_spec.name = "mlp"
    original.input.example_list_with_context.examples.extend([b"\x0a\x04abcd", b""])
    original.input.example_list_with_context.context = b"context"

    def check(body: bytes) -> None:
        with contextlib.suppress(ServingError, DecodeError):
            (array,) = feed(ExamplesRequest.FromString(body).input).values()
            assert array.dtype == object

    fuzz(mutated((original.SerializeToString(), framed(original.SerializeToString()))), check)


EXAMPLE, _ = serialized_examples({"examples": [{"x": [0.5, 1.5, 2.5], "n": 20, "s": "text", "e": []}]})


def test_examples_are_parsed_or_refused(fuzz):
    features = [Feature("x", "float32", (3,)), Feature("n", "int64", ())]

    def check(examples: list[bytes]) -> None:
        array = np.empty(len(examples), object)
        array[:] = examples
        with contextlib.suppress(ServingError):
            found = parse(array, features)
            assert found["x"].shape == (len(examples), 3)
            assert found["n"].shape == (len(examples),)

    fuzz(st.lists(mutated((EXAMPLE[0], EXAMPLE[0] * 2)), min_size=1, max_size=3), check)


def test_number_without_an_end_is_refused_at_once():
    for value in (b"\x12" + b"\xff" * 2_000_000, b"\x12\x7f\x0a" + b"\xff" * 2_000_000):
        entry = b"\x0a\x01x\x12" + varint(len(value)) + value
        features = b"\x0a" + varint(len(entry)) + entry
        array = np.empty(1, object)
        array[0] = b"\x0a" + varint(len(features)) + features
        with pytest.raises(ServingError, match="Can't parse serialized Example"):
            parse(array, [Feature("x", "float32", (3,))])


def test_frames_and_streams_are_read_or_refused(fuzz):
    reflection = Reflection(["/tensorflow.serving.PredictionService/Predict"]).streams()

    def check(drawn: tuple[list[bytes], bytes, bytes]) -> None:
        pieces, encoding, timeout = drawn
        assert (seconds(timeout) or 0.0) >= 0
        with contextlib.suppress(ServingError):
            unframed(b"".join(pieces), encoding, 1000)
        events = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        events.append({"type": "http.disconnect"})

        async def answer() -> None:
            async def receive() -> dict[str, Any]:
                return events.pop(0)

            for stream in reflection.values():
                async for message in stream(Requests(receive, encoding, Limits(1000, 1.0))):
                    assert message
                break

        with contextlib.suppress(ServingError):
            asyncio.run(answer())

    asked = (framed(b"\x3a\x01*"), framed(b"\x22\x27tensorflow.serving.PredictionService"), framed(b"\x1a\x01x") * 3)
    encodings = st.sampled_from([b"", b"gzip", b"deflate", b"identity", b"x"])
    timeouts = st.binary(max_size=9) | st.from_regex(rb"[0-9]{0,9}[HMSmun]", fullmatch=True)
    fuzz(st.tuples(st.lists(mutated(asked), max_size=4), encodings, timeouts), check)


# ------------------------------------------------------------------ on a running server


def test_rest_bodies_are_never_the_servers_fault(target, fuzz):
    connection = http.client.HTTPConnection(target.rest_address, timeout=30)

    def check(drawn: tuple[Any, str, str]) -> None:
        body, model, verb = drawn
        raw = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")
        connection.request("POST", f"/v1/models/{model}:{verb}", raw)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in (200, 400), (answer.status, text)
        if answer.status == 400:
            assert list(json.loads(text)) == ["error"]

    models = st.sampled_from(["mlp", "cnn", "lstm", "transformer", "transformer/versions/1"])
    verbs = st.sampled_from(["predict", "predict", "classify", "regress"])
    fuzz(st.tuples(bodies() | nearly_right_bodies() | VALUES | mutated(BODIES), models, verbs), check)
    connection.close()


def test_http_is_answered_or_refused(target, fuzz):
    def check(data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", target.rest_port), timeout=30) as connection:
            found = b""
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    found += piece
        assert not found or found.startswith(b"HTTP/1.1 "), found[:200]
        assert b"HTTP/1.1 500 " not in found

    fuzz(mutated(HTTP), check)


def outcome(call: Any, request: Any) -> tuple[str, str]:
    """The code and the details of a call."""
    try:
        call(request, timeout=30)
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def test_predict_requests_are_never_the_servers_fault(target, fuzz):
    with grpc.insecure_channel(target.grpc_address, [("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=lambda body: body,
        )

        def check(request: Any) -> None:
            code, details = outcome(call, request)
            assert code in {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}, (code, details)

        fuzz(predict_requests() | nearly_right_requests(), check)


def test_grpc_bytes_are_answered_or_refused(target, fuzz):
    original = PredictRequest()
    original.model_spec.name = "mlp"
    original.inputs["features"].dtype = 1
    for size in (1, 30):
        original.inputs["features"].tensor_shape.dim.add().size = size
    original.inputs["features"].tensor_content = np.ones((1, 30), np.float32).tobytes()
    services = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
    paths = [services[0] + name for name in ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")]
    paths += [services[1] + name for name in ("GetModelStatus",)]
    with grpc.insecure_channel(target.grpc_address, [("grpc.enable_http_proxy", 0)]) as channel:
        calls = [
            channel.unary_unary(path, request_serializer=lambda b: b, response_deserializer=lambda b: b)
            for path in paths
        ]

        def check(drawn: tuple[bytes, int]) -> None:
            body, index = drawn
            code, details = outcome(calls[index], body)
            no_message = "cannot be parsed as a protobuf message" in details  # INTERNAL, as grpcio says it
            assert code not in ("INTERNAL", "UNKNOWN") or no_message, (code, details)

        fuzz(st.tuples(mutated((original.SerializeToString(),)), st.integers(0, len(paths) - 1)), check)


def description() -> Any:
    return yaml.safe_load((SERVER / "openapi.yaml").read_text())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_rest_matches_its_openapi_description(target, fuzz):
    """schemathesis: right and wrong requests for each operation; status, content type, headers and body are described."""
    schema = schemathesis.openapi.from_dict(description())
    with requests.Session() as session:
        session.trust_env = False
        checks = [
            schemathesis.checks.CHECKS.get_one(name)
            for name in (
                "not_a_server_error",
                "status_code_conformance",
                "content_type_conformance",
                "response_headers_conformance",
                "response_schema_conformance",
            )
        ]

        def check(case: Any) -> None:
            response = case.call(base_url=f"http://{target.rest_address}", session=session, timeout=30)
            # Beyond int64 TF Serving's 400 has no body; a signature needs TensorFlow where 501 would be.
            if response.content or response.status_code != 400:
                case.validate_response(response, checks=checks)

        known = {"model": st.sampled_from(["mlp", "lstm"]), "version": st.integers(1, 3), "label": st.just("stable")}
        strategies = []
        for found in schema.get_all_operations():
            operation = found.ok()
            strategies += [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]
            names = [parameter.name for parameter in operation.path_parameters]
            if names:
                asked = st.fixed_dictionaries({name: known[name] for name in names})
                strategies.append(asked.flatmap(lambda p, o=operation: o.as_strategy(path_parameters=p)))
        fuzz(st.one_of(strategies), check, cost=3)


def test_openapi_description_names_every_path_and_error():
    from model_server.errors import HTTP_STATUS

    found = description()
    assert found["openapi"] == "3.1.0"
    paths = set(found["paths"])
    for which in ("", "/versions/{version}", "/labels/{label}"):
        for end in ("", "/metadata", ":predict", ":classify", ":regress"):
            paths.remove(f"/v1/models/{{model}}{which}{end}")
    assert paths == {"/monitoring/prometheus/metrics"}
    described = {int(code) for path in found["paths"].values() for op in path.values() for code in op["responses"]}
    # The codes that nothing here ends with.
    assert {*HTTP_STATUS.values(), 500} - described == {401, 403, 409, 499, 500}
    assert Path(SERVER / "openapi.yaml").is_file()
