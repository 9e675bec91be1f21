"""Every dtype that TF Serving takes, in both encodings of a TensorProto, against TensorFlow's own codec."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from model_server.protos import TensorProto
from model_server.tensors import KINDS, to_proto

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_server.tensors import Kind
    from numpy.typing import NDArray

pytestmark = pytest.mark.slow  # TensorFlow, here and on the server

SHAPES = [(), (0,), (3,), (4, 5)]  # answers of more than 16 floats are written in another way
PARTS = {"scomplex_val": 2, "dcomplex_val": 2}  # a complex number is two values of its field


@pytest.fixture(scope="module")
def api(tensorflow_server) -> Iterator[SimpleNamespace]:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    with grpc.insecure_channel(tensorflow_server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        yield SimpleNamespace(tf=tf, Request=predict_pb2.PredictRequest, predict=stub.Predict)


def values(kind: Kind, shape: tuple[int, ...]) -> NDArray:
    """Values that tell a dtype apart: its limits, fractions, both parts of a complex number, bytes that are no text."""
    if kind.dtype.kind in "iu":
        limits = np.iinfo(kind.dtype)
        some: list[Any] = [limits.min, limits.max, 7]
    elif kind.dtype.kind == "c":
        some = [1.5 - 2.5j, complex(np.inf, -0.0), 1e-3j]
    elif kind.dtype == object:
        some = [b"\xff\x00 bytes", "日本".encode(), b""]
    elif kind.dtype == bool:
        some = [True, False, True]
    else:
        limits = ml_dtypes.finfo(kind.dtype)
        some = [float(limits.max), float(limits.smallest_subnormal), -np.inf]
    array = np.empty(int(np.prod(shape)), kind.dtype)
    for index in range(array.size):
        array[index] = some[index % len(some)]
    return array.reshape(shape)


def request_of(api: SimpleNamespace, kind: Kind, array: NDArray, encoding: str) -> Any:
    request = api.Request()
    request.model_spec.name, request.model_spec.signature_name = "same", kind.name
    tensor = request.inputs["x"]
    tensor.dtype = kind.enum
    tensor.tensor_shape.CopyFrom(api.tf.TensorShape(array.shape).as_proto())
    if encoding == "tensor_content" and kind.name != "string":
        tensor.tensor_content = array.tobytes()
    else:
        getattr(tensor, kind.field).extend(typed(kind, array))
    np.testing.assert_array_equal(api.tf.make_ndarray(tensor), array)
    return request


def typed(kind: Kind, array: NDArray) -> list[Any]:
    flat = array.ravel()
    if kind.field == "half_val":
        flat = flat.view(np.uint16)
    elif kind.field in PARTS:
        flat = flat.view(np.float32 if kind.name == "complex64" else np.float64)
    return flat.tolist()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("encoding", ["tensor_content", "typed field"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_sent_comes_back(kind: Kind, encoding: str, shape: tuple[int, ...], api):
    array = values(kind, shape)
    answer = api.predict(request_of(api, kind, array, encoding), timeout=20)
    assert answer.model_spec.signature_name == kind.name
    sent_back = answer.outputs["y"]
    assert not sent_back.tensor_content
    assert len(getattr(sent_back, kind.field)) == array.size * PARTS.get(kind.field, 1)
    decoded = api.tf.make_ndarray(sent_back)
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_too_few_values_repeat_the_last_and_surplus_ones_are_dropped(kind: Kind, api):
    array = values(kind, (3,))
    request = request_of(api, kind, array, "typed field")
    for size, expected in ((5, array[[0, 1, 2, 2, 2]]), (2, array[:2])):
        request.inputs["x"].tensor_shape.dim[0].size = size
        np.testing.assert_array_equal(api.tf.make_ndarray(api.predict(request, timeout=20).outputs["y"]), expected)
    request.inputs["x"].ClearField(kind.field)
    nothing = api.tf.make_ndarray(api.predict(request, timeout=20).outputs["y"])
    assert (nothing == (b"" if kind.name == "string" else 0)).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name != "string"], ids=lambda kind: kind.name)
def test_tensor_content_of_a_wrong_size_is_refused(kind: Kind, api):
    request = request_of(api, kind, values(kind, (3,)), "tensor_content")
    request.inputs["x"].tensor_content += b"\0"
    with pytest.raises(grpc.RpcError, match="tensor parsing error: x") as error:
        api.predict(request, timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_answer_as_tensor_content_reads_back(kind: Kind, shape: tuple[int, ...]):
    """What --enable_serialization_as_tensor_content makes of an answer; strings have no such form."""
    import tensorflow as tf

    array, tensor = values(kind, shape), TensorProto()
    to_proto(array, tensor, as_content=True)
    assert kind.name == "string" or not getattr(tensor, kind.field)
    official = tf.make_tensor_proto([0]).FromString(tensor.SerializeToString())
    decoded = tf.make_ndarray(official)
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("which", ["version", "label"])
def test_version_signature_and_output_are_chosen_together(which: str, server, exports):
    """On the light server, which has two versions and labels; ``probability`` is the mlp's only output."""
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    case = exports["mlp", 1].evidence.cases("serving_default")[0]
    request = predict_pb2.PredictRequest()
    spec = request.model_spec
    spec.name, spec.signature_name = "mlp", "static"
    if which == "version":
        spec.version.value = 1
    else:
        spec.version_label = "stable"
    request.inputs["features"].dtype = 1
    for size in (1, 30):
        request.inputs["features"].tensor_shape.dim.add().size = size
    request.inputs["features"].float_val.extend(case.inputs["features"][0].tolist())
    request.output_filter.append("probability")
    with grpc.insecure_channel(server.grpc_address) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=10)
    assert (answer.model_spec.version.value, answer.model_spec.version_label) == (1, "")
    assert answer.model_spec.signature_name == "static"
    np.testing.assert_allclose(answer.outputs["probability"].float_val, case.outputs["probability"][0], 1e-5, 1e-5)
