"""The published models answer as the reference did, over both protocols: all evidence, twice, in several batch sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from serving.client.grpc import GrpcClient
    from serving.client.rest import RestClient


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_evidence_of_every_model_and_version_within_1e_5(protocol, rest, grpc, exports):
    client = {"rest": rest, "grpc": grpc}[protocol]
    for (model, version), export in exports.items():
        cases = export.evidence.cases("serving_default")
        assert cases, f"{model} has no evidence"
        for case in cases:
            for _ in range(2):
                answer = client.predict(model, case.inputs, version=version)
                assert answer.keys() == case.outputs.keys()
                for name, expected in case.outputs.items():
                    assert answer[name].dtype == expected.dtype
                    assert answer[name].shape == expected.shape
                    np.testing.assert_allclose(
                        answer[name], expected, rtol=1e-5, atol=1e-5, err_msg=f"{model} {version}"
                    )


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_predict_in_batch_sizes_gives_the_same_rows(rows, rest, grpc, exports):
    for (model, version), export in exports.items():
        case = export.evidence.cases("serving_default")[0]
        inputs = {name: array[:rows] for name, array in case.inputs.items()}
        for client in (rest, grpc):
            for name, array in client.predict(model, inputs, version=version).items():
                np.testing.assert_allclose(array, case.outputs[name][:rows], rtol=1e-5, atol=1e-5)


def test_static_signature_is_answered_by_the_same_file(grpc: GrpcClient, exports):
    export = exports["mlp", 2]
    case = export.evidence.cases("serving_default")[0]
    inputs = {name: array[:1] for name, array in case.inputs.items()}
    answer = grpc.predict("mlp", inputs, version=2, signature="static")
    np.testing.assert_allclose(answer["probability"], case.outputs["probability"][:1], rtol=1e-5, atol=1e-5)


def test_predict_of_no_rows_gives_no_rows(rest: RestClient, grpc: GrpcClient, exports):
    features = exports["mlp", 2].evidence.cases("serving_default")[0].inputs["features"][:0]
    assert grpc.predict("mlp", {"features": features})["probability"].shape == (0, 1)


def test_label_chooses_its_version(rest: RestClient, grpc: GrpcClient, exports):
    cases = {version: exports["mlp", version].evidence.cases("serving_default")[0] for version in (1, 2)}
    for label, version in (("stable", 1), ("canary", 2)):
        for client in (rest, grpc):
            answer = client.predict("mlp", cases[version].inputs, label=label)["probability"]
            np.testing.assert_allclose(answer, cases[version].outputs["probability"], rtol=1e-5, atol=1e-5)


def test_latest_version_answers_when_none_is_named(rest: RestClient, grpc: GrpcClient, exports):
    case = exports["mlp", 2].evidence.cases("serving_default")[0]
    for client in (rest, grpc):
        answer = client.predict("mlp", case.inputs)["probability"]
        np.testing.assert_allclose(answer, case.outputs["probability"], rtol=1e-5, atol=1e-5)
    assert grpc.metadata("mlp")["model_spec"]["version"] == "2"


def test_metadata_is_the_same_over_both_protocols(rest: RestClient, grpc: GrpcClient, exports):
    for model, version in exports:
        by_rest, by_grpc = (client.metadata(model, version=version) for client in (rest, grpc))
        assert by_rest == by_grpc
        assert by_rest["signatures"]["serving_default"]["method_name"] == "tensorflow/serving/predict"
        assert by_rest["model_spec"] == {"name": model, "signature_name": "", "version": str(version)}


def test_status_lists_the_highest_version_first(rest: RestClient, grpc: GrpcClient):
    expected = [
        {"version": version, "state": "AVAILABLE", "error_code": "OK", "error_message": ""} for version in (2, 1)
    ]
    assert rest.status("mlp") == grpc.status("mlp") == expected
    assert grpc.status("mlp", version=1) == expected[1:]
