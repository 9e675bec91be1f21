"""The server driven with the messages and stubs of tensorflow-serving-api, as an existing client would."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the official messages import TensorFlow


@pytest.fixture(scope="module")
def api() -> SimpleNamespace:
    import tensorflow as tf
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

    return SimpleNamespace(
        tf=tf,
        predict=predict_pb2,
        status=get_model_status_pb2,
        metadata=get_model_metadata_pb2,
    )


@pytest.fixture
def stub(api, server):
    """PredictionServiceStub and ModelServiceStub.

    prediction_service_pb2_grpc imports; model_service_pb2 does not with protobuf 4 and later, so its one method is
    made here from the official messages.
    """
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    with grpc.insecure_channel(server.grpc_address) as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        status = channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=api.status.GetModelStatusRequest.SerializeToString,
            response_deserializer=api.status.GetModelStatusResponse.FromString,
        )
        yield SimpleNamespace(
            Predict=prediction.Predict,
            GetModelMetadata=prediction.GetModelMetadata,
            GetModelStatus=status,
        )


@pytest.mark.parametrize("form", ["tensor_content", "typed field"])
def test_predict_takes_both_forms_of_a_tensor(form, api, stub, exports):
    case = exports["mlp", 2].evidence.cases("serving_default")[0]
    features = case.inputs["features"][:5]
    request = api.predict.PredictRequest()
    request.model_spec.name = "mlp"
    request.model_spec.signature_name = "serving_default"
    if form == "tensor_content":
        request.inputs["features"].CopyFrom(api.tf.make_tensor_proto(features))
        assert request.inputs["features"].tensor_content
    else:
        tensor = request.inputs["features"]
        tensor.dtype = api.tf.float32.as_datatype_enum
        tensor.tensor_shape.CopyFrom(api.tf.TensorShape(features.shape).as_proto())
        tensor.float_val.extend(features.ravel().tolist())
    answer = stub.Predict(request, timeout=10)
    assert answer.model_spec.name == "mlp"
    assert answer.model_spec.version.value == 2
    assert answer.model_spec.signature_name == "serving_default"
    assert answer.outputs["probability"].float_val
    assert not answer.outputs["probability"].tensor_content
    np.testing.assert_allclose(
        api.tf.make_ndarray(answer.outputs["probability"]), case.outputs["probability"][:5], rtol=1e-5, atol=1e-5
    )


def test_predict_with_output_filter_gives_only_that_output(api, stub, exports):
    request = api.predict.PredictRequest()
    request.model_spec.name = "mlp"
    features = exports["mlp", 2].evidence.cases("serving_default")[0].inputs["features"][:1]
    request.inputs["features"].CopyFrom(api.tf.make_tensor_proto(features))
    request.output_filter.append("probability")
    assert list(stub.Predict(request, timeout=10).outputs) == ["probability"]
    request.output_filter[:] = ["nothing"]
    with pytest.raises(grpc.RpcError, match="output tensor alias not found in signature: nothing") as error:
        stub.Predict(request, timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_status_and_metadata_parse_as_the_official_messages(api, stub, exports):
    request = api.status.GetModelStatusRequest()
    request.model_spec.name = "cnn"
    states = {row.version: row.state for row in stub.GetModelStatus(request, timeout=10).model_version_status}
    available = api.status.ModelVersionStatus.AVAILABLE
    assert states == {version: available for model, version in exports if model == "cnn"}
    request = api.metadata.GetModelMetadataRequest()
    request.model_spec.name = "cnn"
    request.metadata_field.append("signature_def")
    answer = stub.GetModelMetadata(request, timeout=10)
    signatures = api.metadata.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    image = signatures.signature_def["serving_default"].inputs["image"]
    assert [dim.size for dim in image.tensor_shape.dim] == [-1, 8, 8, 1]


def test_descriptors_in_the_repository_match_the_installed_api(api):
    from serving.descriptors import COPIES, describe

    for path in COPIES:
        assert path.read_bytes() == describe(), f"{path} is out of date: run python -m serving.descriptors"
