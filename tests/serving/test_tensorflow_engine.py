"""The server with TensorFlow: any signature, strings too, beside what LiteRT runs."""

from __future__ import annotations

import numpy as np
import pytest

from serving.client.errors import Refused, TimedOut
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient

pytestmark = pytest.mark.slow


@pytest.fixture
def running(tensorflow_server):
    return tensorflow_server


def test_saved_model_without_tflite_gives_the_evidence(running, exports):
    with RestClient(running.rest_address) as rest, GrpcClient(running.grpc_address) as grpc:
        assert "engine=tensorflow" in rest.headers("mlp")["x-model-server"]
        for case in exports["mlp", 2].evidence.cases("serving_default"):
            for client in (rest, grpc):
                answer = client.predict("mlp", case.inputs)["probability"]
                np.testing.assert_allclose(answer, case.outputs["probability"], rtol=1e-5, atol=1e-5)


def test_string_signature_goes_to_tensorflow_and_the_rest_to_litert(running, exports):
    evidence = exports["transformer", 2].evidence
    case = evidence.cases("from_text")[0]
    with RestClient(running.rest_address) as rest, GrpcClient(running.grpc_address) as grpc:
        assert "engine=litert" in rest.headers("published")["x-model-server"]
        for client in (rest, grpc):
            answer = client.predict("published", case.inputs, signature="from_text")
            for name, expected in case.outputs.items():
                np.testing.assert_allclose(answer[name], expected, rtol=1e-5, atol=1e-5)


def test_every_signature_of_the_mlp_is_answered(running, exports):
    evidence = exports["mlp", 2].evidence
    with GrpcClient(running.grpc_address) as grpc:
        for signature in evidence.signatures():
            for case in evidence.cases(signature):
                rows = 1 if signature in ("core", "static") else case.rows
                answer = grpc.predict("mlp", {k: v[:rows] for k, v in case.inputs.items()}, signature=signature)
                for name, expected in case.outputs.items():
                    if expected.dtype != object:
                        np.testing.assert_allclose(answer[name], expected[:rows], rtol=1e-5, atol=1e-5)


def test_graph_error_has_tensorflows_message(running):
    with GrpcClient(running.grpc_address) as grpc, pytest.raises(Refused) as error:
        grpc.predict("mlp", {"features": np.ones((2, 7), np.float32)})
    assert error.value.code == "INVALID_ARGUMENT"
    assert "node" in error.value.message or "shape" in error.value.message


def test_deadline_ends_the_call(running):
    with GrpcClient(running.grpc_address) as grpc, pytest.raises(TimedOut):
        grpc.predict("mlp", {"features": np.ones((2_000_00, 30), np.float32)}, timeout=0.001)
