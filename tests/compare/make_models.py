"""SavedModels as users have them. Importing this imports TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from pathlib import Path


class TwoInTwoOut(tf.Module):
    """Floats and ids in, scores and counts out, batch free."""

    def __init__(self) -> None:
        self.table = tf.Variable(tf.random.stateless_normal((4, 3), seed=(1, 2)))

    @tf.function(
        input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x"), tf.TensorSpec((None, 5), tf.int32, name="ids")]
    )
    def serve(self, x, ids):
        mixed = x + tf.reduce_sum(tf.gather(self.table, tf.clip_by_value(ids, 0, 3)), axis=1)
        return {"score": tf.nn.softmax(mixed), "total": tf.reduce_sum(ids, axis=1)}


class Words(tf.Module):
    """Text in, lengths and text out: nothing but a server with TensorFlow can run it."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def serve(self, text):
        return {"length": tf.strings.length(text), "upper": tf.strings.upper(text)}


class FixedBatch(tf.Module):
    """Two rows at a time, no other number."""

    def __init__(self) -> None:
        self.w = tf.Variable(tf.random.stateless_normal((6, 2), seed=(3, 4)))

    @tf.function(input_signature=[tf.TensorSpec((2, 6), tf.float32, name="x")])
    def serve(self, x):
        return {"y": tf.tanh(x @ self.w)}


def save_all(folder: Path) -> None:
    for name, model in (("two_in_two_out", TwoInTwoOut()), ("words", Words()), ("fixed_batch", FixedBatch())):
        tf.saved_model.save(model, str(folder / name), signatures={"serving_default": model.serve})
    broken = folder / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"this is no protobuf")
