"""Signatures that take strings: ``tf.Example`` for TF Serving's Classify and Regress, and plain text.

They need TensorFlow on the server. Each says how rows in raw units become its strings, so that the evidence can hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.spec import ModelSpec

PREDICT = "tensorflow/serving/predict"


@dataclass(frozen=True)
class ExtraSignature:
    """``function(answer, strings)`` gets the deployed model as ``answer({input: raw}) → {output: raw}``, and the strings [N]."""

    name: str
    input: str  # the name of its one input, tf.string [N]
    function: Callable[..., dict[str, tf.Tensor]]
    encode: Callable[[dict[str, NDArray]], NDArray]  # raw rows → object array of bytes [n]
    method_name: str = PREDICT
    boundary: tuple[bytes, ...] = ()  # strings that no encoded row reaches


def strings(values: list[bytes]) -> NDArray:
    """An object array of bytes; ``np.array`` would cut trailing zeros."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _example_parser(spec: ModelSpec):
    layout = {t.name: tf.io.FixedLenFeature(t.shape[1:], tf.as_dtype(t.dtype)) for t in spec.inputs}
    return lambda examples: tf.io.parse_example(examples, layout)


def _as_examples(rows: dict[str, NDArray]) -> NDArray:
    examples = []
    for i in range(len(next(iter(rows.values())))):
        example = tf.train.Example()
        for name, values in rows.items():
            feature = example.features.feature[name]
            if np.issubdtype(values.dtype, np.integer):
                feature.int64_list.value.extend(values[i].ravel().tolist())
            else:
                feature.float_list.value.extend(values[i].ravel().tolist())
        examples.append(example.SerializeToString(deterministic=True))
    return strings(examples)


def classify(spec: ModelSpec) -> ExtraSignature:
    """TF Serving's Classify for a model with one probability: classes and scores, both [N, 2]."""
    parse, labels, output = _example_parser(spec), spec.decision.labels if spec.decision else (), spec.outputs[0].name

    def function(answer, examples):
        probability = answer(parse(examples))[output]
        classes = tf.tile(tf.constant([list(labels)]), [tf.shape(probability)[0], 1])
        return {"classes": classes, "scores": tf.concat([1.0 - probability, probability], 1)}

    return ExtraSignature("classify", "inputs", function, _as_examples, "tensorflow/serving/classify")


def regress(spec: ModelSpec) -> ExtraSignature:
    """TF Serving's Regress: outputs [N, 1] in raw units."""
    parse, output = _example_parser(spec), spec.outputs[0].name

    def function(answer, examples):
        return {"outputs": answer(parse(examples))[output]}

    return ExtraSignature("regress", "inputs", function, _as_examples, "tensorflow/serving/regress")


def from_text(spec: ModelSpec, tokens_of: Callable[[tf.Tensor], tf.Tensor]) -> ExtraSignature:
    """Text instead of tokens: the graph itself makes the bytes of each string, through a RaggedTensor."""
    tokens = spec.inputs[0].name

    def function(answer, text):
        return answer({tokens: tokens_of(text)})

    def encode(rows: dict[str, NDArray]) -> NDArray:
        return strings([bytes(row.astype(np.uint8)).rstrip(b"\0") for row in rows[tokens]])

    length = spec.inputs[0].shape[1] or 0
    return ExtraSignature(
        "from_text",
        "text",
        function,
        encode,
        boundary=(
            b"",
            b"a",
            b"x" * length,
            b"x" * (length + 1),
            b"long " * 60,
            "é".encode() * length,
            "日本語".encode(),
        ),
    )
