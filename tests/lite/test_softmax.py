"""The quantized softmax that every processor computes alike. That it does on ARM: tests/edge/test_arm.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from lite.inspect import inspect_tflite
from lite.softmax import portable_softmax

# The converter warns of its own default.
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs were expected")
WIDTH = 10
GENERATOR = np.random.default_rng(0)


def convert(function: tf.function) -> bytes:
    module = tf.Module()
    module.function = function  # with it the file has a signature
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    rows = GENERATOR.normal(0, 3, (100, 1, WIDTH)).astype(np.float32)
    converter.representative_dataset = lambda: ([row] for row in rows)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def answers(content: bytes, rows: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (given,), (got,) = interpreter.get_input_details(), interpreter.get_output_details()
    result = []
    for row in rows:
        interpreter.set_tensor(given["index"], row[None])
        interpreter.invoke()
        result.append(interpreter.get_tensor(got["index"])[0])
    return np.stack(result)


@pytest.fixture(scope="module")
def softmax() -> bytes:
    @tf.function(input_signature=[tf.TensorSpec((1, WIDTH), tf.float32, name="x")])
    def softmax(x):
        return tf.nn.softmax(x)

    return convert(softmax)


def test_portable_softmax_is_the_same_function(softmax: bytes):
    """Within a step of the converter's file, and as near to the exact softmax of what the integers stand for."""
    portable = portable_softmax(softmax)
    described = inspect_tflite(portable)
    assert (described["ops"], described["float_islands"]) == ({"QUANTIZE": 1, "SOFTMAX": 1}, {})
    assert described["inputs"] == inspect_tflite(softmax)["inputs"]
    assert described["outputs"] == inspect_tflite(softmax)["outputs"]
    rows = GENERATOR.integers(-128, 128, (500, WIDTH), dtype=np.int8)
    before, after = (answers(content, rows).astype(int) for content in (softmax, portable))
    assert np.abs(before - after).max() <= 1
    given = described["inputs"][0]
    real = (rows.astype(np.float64) - given["zero_point"]) * given["scale"]
    exact = np.exp(real) / np.exp(real).sum(axis=1, keepdims=True)
    stands_for = (after + 128) / 256
    assert np.abs(stands_for - np.minimum(exact, 255 / 256)).max() <= 0.51 / 256


def test_file_without_a_quantized_softmax_stays_as_it_is(softmax: bytes):
    @tf.function(input_signature=[tf.TensorSpec((1, WIDTH), tf.float32, name="x")])
    def doubled(x):
        return tf.nn.relu(x + x)

    plain = convert(doubled)
    assert portable_softmax(plain) is plain
    again = portable_softmax(softmax)
    assert portable_softmax(again) is again
