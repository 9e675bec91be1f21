"""The clients' gRPC messages, byte for byte those of tensorflow-serving-api, and answers read as TensorFlow reads them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from serving.client.api import Spec
from serving.client.errors import ClientError, Refused
from serving.client.grpc import GrpcWording
from serving.client.messages import message
from serving.client.tensors import decode, encode

pytestmark = pytest.mark.slow  # the official messages import TensorFlow

ASK = GrpcWording()
SPECS = [
    Spec("m"),
    Spec("m", version=3, signature="s"),
    Spec("m", version=0),
    Spec("m", label="canary"),
    Spec("größe", version=2**62, signature="serving_default"),
]
SHAPES = [(), (1,), (2,), (0,), (3, 0, 2), (1, 1), (2, 3, 4), (1000,)]
DTYPES = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
          "uint64", "bool", "complex64", "complex128", "object"]  # fmt: skip


@pytest.fixture(scope="module")
def api() -> SimpleNamespace:
    import tensorflow as tf
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

    return SimpleNamespace(
        tf=tf,
        predict=predict_pb2,
        classification=classification_pb2,
        regression=regression_pb2,
        inference=inference_pb2,
        status=get_model_status_pb2,
        metadata=get_model_metadata_pb2,
        management=model_management_pb2,
    )


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == "object":
        flat = [bytes(rng.integers(0, 256, size=n % 5, dtype=np.uint8)) for n in range(int(np.prod(shape)))]
        array = np.empty(len(flat), object)
        array[:] = flat
        return array.reshape(shape)
    if dtype == "bfloat16":
        import ml_dtypes

        return np.asarray(rng.normal(size=shape)).astype(ml_dtypes.bfloat16)
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        return np.asarray(rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True))
    return np.asarray(rng.normal(size=shape) * 3 + 1j * rng.normal(size=shape)).real.astype(dtype)


def spec_into(official, spec: Spec) -> None:
    official.name = spec.model
    if spec.version is not None:
        official.version.value = spec.version
    if spec.label:
        official.version_label = spec.label
    if spec.signature:
        official.signature_name = spec.signature


def assert_same(ours, official) -> None:
    assert ours.SerializeToString(deterministic=True) == official.SerializeToString(deterministic=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_predict_request_of_every_dtype_and_shape(dtype, api):
    for shape in SHAPES:
        array = values(dtype, shape)
        official = api.predict.PredictRequest()
        official.model_spec.name = "m"
        official.inputs["x"].CopyFrom(api.tf.make_tensor_proto(array))
        assert_same(ASK.predict(Spec("m"), {"x": array}, ()).request, official)


@pytest.mark.parametrize("spec", SPECS)
def test_model_spec_of_every_kind(spec, api):
    official = api.predict.PredictRequest()
    spec_into(official.model_spec, spec)
    for name in ("b", "a"):
        official.inputs[name].CopyFrom(api.tf.make_tensor_proto(np.ones((2, 2), np.float32)))
    official.output_filter.extend(["y", "z"])
    inputs = {name: np.ones((2, 2), np.float32) for name in ("a", "b")}
    assert_same(ASK.predict(spec, inputs, ("y", "z")).request, official)


def test_text_layout_and_order_make_no_difference(api):
    for array in (
        np.array(["ä", "b"]),
        np.array([b"a", b"bc"]),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        np.arange(6, dtype=">i4"),  # the other byte order
    ):
        official = api.tf.make_tensor_proto(
            array.astype(array.dtype.newbyteorder("=")) if array.dtype.kind == "i" else array
        )
        ours = message("tensorflow.TensorProto")()
        encode(array, ours, "x")
        assert_same(ours, official)


@pytest.mark.parametrize("dtype", DTYPES)
def test_answers_decode_as_make_ndarray_does(dtype, api):
    for shape in SHAPES:
        array = values(dtype, shape)
        for content in (True, False):
            official = api.tf.make_tensor_proto(array)
            if content and dtype not in ("object",):
                for _, field in ((f, f.name) for f, _ in official.ListFields() if f.name.endswith("_val")):
                    official.ClearField(field)
                official.tensor_content = array.tobytes()
            read = decode(message("tensorflow.TensorProto").FromString(official.SerializeToString()))
            expected = api.tf.make_ndarray(official)
            assert read.dtype == expected.dtype
            assert read.shape == expected.shape
            assert read.tolist() == expected.tolist()


def test_answer_that_leaves_out_repeated_values(api):
    official = api.tf.make_tensor_proto(np.float32([1.0, 2.0]))
    official.ClearField("tensor_content")
    official.float_val.extend([1.0, 2.0])
    official.tensor_shape.dim[0].size = 5
    read = decode(message("tensorflow.TensorProto").FromString(official.SerializeToString()))
    np.testing.assert_array_equal(read, api.tf.make_ndarray(official))


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("method", ["classify", "regress"])
def test_classify_and_regress_requests(method, with_context, api):
    columns = {
        "x": np.float32([[0.5, 1.5], [2.0, -1.0]]),
        "n": np.int32([7, -8]),
        "flag": np.array([True, False]),
        "text": np.array(["ä", "b"]),
        "raw": np.array([b"\xff", b""], object),
    }
    context = {"tag": np.array([b"ctx"]), "k": np.int64(3)} if with_context else None
    kind = {"classify": api.classification.ClassificationRequest, "regress": api.regression.RegressionRequest}[method]
    official = kind()
    spec = Spec("m", label="stable", signature="s")
    spec_into(official.model_spec, spec)
    into = official.input.example_list_with_context if with_context else official.input.example_list
    for i in range(2):
        example = into.examples.add()
        feature = example.features.feature
        feature["x"].float_list.value.extend(columns["x"][i])
        feature["n"].int64_list.value.append(columns["n"][i])
        feature["flag"].int64_list.value.append(int(columns["flag"][i]))
        feature["text"].bytes_list.value.append(str(columns["text"][i]).encode())
        feature["raw"].bytes_list.value.append(columns["raw"][i])
    if with_context:
        into.context.features.feature["tag"].bytes_list.value.append(b"ctx")
        into.context.features.feature["k"].int64_list.value.append(3)
    assert_same(getattr(ASK, method)(spec, columns, context).request, official)


def test_multi_inference_request_and_answer(api):
    official = api.inference.MultiInferenceRequest()
    for signature, method in (("c", "classify"), ("r", "regress")):
        task = official.tasks.add(method_name=f"tensorflow/serving/{method}")
        spec_into(task.model_spec, Spec("m", version=2, signature=signature))
    for value in (1.0, 2.0):
        example = official.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(value)
    question = ASK.multi_inference(
        Spec("m", version=2), {"x": np.float64([1.0, 2.0])}, {"c": "classify", "r": "regress"}, None
    )
    assert_same(question.request, official)
    answer = api.inference.MultiInferenceResponse()
    classified, regressed = answer.results.add(), answer.results.add()
    classified.model_spec.signature_name, regressed.model_spec.signature_name = "c", "r"
    for scores in ((0.25, 0.75), (1.0, 0.0)):
        row = classified.classification_result.classifications.add()
        for label, score in zip(("no", "yes"), scores, strict=True):
            row.classes.add(label=label, score=score)
        regressed.regression_result.regressions.add(value=scores[0])
    read = question.read(message("tensorflow.serving.MultiInferenceResponse").FromString(answer.SerializeToString()))
    assert read["c"]["classes"].tolist() == [["no", "yes"], ["no", "yes"]]
    assert read["c"]["scores"].tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert read["c"]["scores"].dtype == read["r"].dtype == np.float32
    assert read["r"].tolist() == [0.25, 1.0]


@pytest.mark.parametrize("spec", [Spec("m"), Spec("m", version=7)])
def test_status_and_metadata_requests(spec, api):
    official = api.status.GetModelStatusRequest()
    spec_into(official.model_spec, spec)
    assert_same(ASK.status(spec).request, official)
    official = api.metadata.GetModelMetadataRequest()
    spec_into(official.model_spec, spec)
    official.metadata_field.append("signature_def")
    assert_same(ASK.metadata(spec).request, official)


def test_reload_request_is_the_config_file(api):
    from google.protobuf import text_format

    text = """model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow"
              model_version_policy { specific { versions: 1 versions: 2 } }
              version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } } }"""
    official = api.management.ReloadConfigRequest()
    text_format.Parse(text, official.config)
    question = ASK.reload_config(text)
    assert_same(question.request, official)
    refused = api.management.ReloadConfigResponse()
    refused.status.error_code, refused.status.error_message = 9, "not loaded"
    with pytest.raises(Refused, match="FAILED_PRECONDITION: not loaded"):
        question.read(message("tensorflow.serving.ReloadConfigResponse").FromString(refused.SerializeToString()))


def test_reload_with_a_config_that_is_none_names_the_line():
    with pytest.raises(ClientError, match="no ModelServerConfig in text format: 1:1"):
        ASK.reload_config("modelconfig {}")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            {"x": np.array(["2026-01-01"], "datetime64[D]")},
            r"input x is datetime64\[D\], which has no TensorProto form",
        ),
        ({"x": np.array([1, None], object)}, "input x holds int, where text or bytes belong"),
    ],
)
def test_input_that_no_tensor_can_hold_is_an_error_that_names_it(inputs, words):
    with pytest.raises(ClientError, match=words):
        ASK.predict(Spec("m"), inputs, ())


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ({"a": np.ones(2), "b": np.ones(3)}, "a has 2, b has 3"),
        ({"a": np.ones(2), "b": np.float32(1)}, "b is a scalar"),
        ({"a": np.ones(2, complex)}, "feature a is complex128, which tf.Example cannot hold"),
    ],
)
def test_examples_that_do_not_fit_together_are_an_error_that_names_them(examples, words):
    with pytest.raises(ClientError, match=words):
        ASK.classify(Spec("m"), examples, None)
