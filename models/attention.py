"""The transformer's layers, written so that every runtime has their operations: matmul, softmax, tanh, static shapes.

What is left out on purpose: Einsum (not in TF.js wasm), the exact GELU's Erf (not in TF.js), and a mask of −1e9, which
would leave int8 no levels for the scores that matter.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf
from keras import ops

MASK = -20.0  # exp(-20) is 2e-9: nothing, and still a number that int8 can share a scale with


def tanh_gelu(x):
    """GELU by its tanh formula (Hendrycks and Gimpel 2016, section 2); x·x·x, because TFLite's Pow has no int8 form."""
    return 0.5 * x * (1.0 + ops.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


@keras.saving.register_keras_serializable("export_once")
class Project(keras.layers.Layer):
    """A dense layer on the last axis as one rank-2 matmul: [N, steps, width] → [N, steps, units]."""

    def __init__(self, units: int, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x):
        flat = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), self.kernel) + self.bias
        return ops.reshape(flat, (-1, x.shape[1], self.units))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("export_once")
class TokenEmbedding(keras.layers.Layer):
    """int32 tokens [N, length] → vectors [N, length, width], each the token's plus its place's."""

    def __init__(self, vocabulary: int, width: int, **options):
        super().__init__(**options)
        self.vocabulary, self.width = vocabulary, width

    def build(self, shape):
        self.token = self.add_weight(shape=(self.vocabulary, self.width), initializer="random_normal", name="token")
        self.place = self.add_weight(shape=(shape[1], self.width), initializer="random_normal", name="place")

    def call(self, tokens):
        return tf.gather(self.token, tokens) + self.place  # ops.take would add operations for negative indices

    def compute_output_shape(self, shape):
        return (*shape, self.width)

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary, "width": self.width}


@keras.saving.register_keras_serializable("export_once")
class SelfAttention(keras.layers.Layer):
    """Scaled dot-product attention over ``heads`` heads: ([N, length, width], keep [N, length] of 0 and 1) → [N, length, width]."""

    def __init__(self, heads: int, **options):
        super().__init__(**options)
        self.heads = heads

    def build(self, x_shape, keep_shape=None):
        self.query, self.key, self.value, self.out = (
            Project(x_shape[-1], name=n) for n in ("query", "key", "value", "out")
        )
        for layer in (self.query, self.key, self.value, self.out):
            layer.build(x_shape)

    def call(self, x, keep):
        length, width = x.shape[1], x.shape[2]
        size = width // self.heads

        def split(y, axes):
            return ops.transpose(ops.reshape(y, (-1, length, self.heads, size)), axes)

        query, value = split(self.query(x), (0, 2, 1, 3)), split(self.value(x), (0, 2, 1, 3))
        scores = ops.matmul(query * size**-0.5, split(self.key(x), (0, 2, 3, 1)))
        scores = scores + ops.reshape((1.0 - keep) * MASK, (-1, 1, 1, length))
        mixed = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
        return self.out(ops.reshape(mixed, (-1, length, width)))

    def compute_output_shape(self, x_shape, keep_shape=None):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("export_once")
class Block(keras.layers.Layer):
    """One pre-norm transformer block: attention, then two projections with a GELU between, each added to its input."""

    def __init__(self, heads: int, dropout: float = 0.0, **options):
        super().__init__(**options)
        self.heads, self.rate = heads, dropout

    def build(self, x_shape, keep_shape=None):
        self.before_attention = keras.layers.LayerNormalization(name="before_attention")
        self.before_mlp = keras.layers.LayerNormalization(name="before_mlp")
        self.attention = SelfAttention(self.heads, name="attention")
        self.widen, self.narrow = Project(2 * x_shape[-1], name="widen"), Project(x_shape[-1], name="narrow")
        self.dropout = keras.layers.Dropout(self.rate)
        for layer in (self.before_attention, self.before_mlp, self.attention, self.widen):
            layer.build(x_shape)
        self.narrow.build((*x_shape[:-1], 2 * x_shape[-1]))

    def call(self, x, keep, training=False):
        x = x + self.dropout(self.attention(self.before_attention(x), keep), training=training)
        return x + self.dropout(self.narrow(tanh_gelu(self.widen(self.before_mlp(x)))), training=training)

    def compute_output_shape(self, x_shape, keep_shape=None):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "dropout": self.rate}


@keras.saving.register_keras_serializable("export_once")
class Keep(keras.layers.Layer):
    """1.0 where a token is, 0.0 where the text has ended."""

    def call(self, tokens):
        return ops.cast(ops.not_equal(tokens, 0), "float32")

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape, "float32")


@keras.saving.register_keras_serializable("export_once")
class MeanOverText(keras.layers.Layer):
    """The mean of the places that hold a token: ([N, length, width], keep [N, length]) → [N, width]; of all, where none does.

    A softmax over equal scores shares one out among the kept places. A sum over a count would need a division, which
    older TFLite runtimes (tflite-runtime 2.14, all that 32-bit ARM has) do not have in int8.
    """

    def call(self, x, keep):
        shares = ops.softmax((1.0 - keep) * MASK)
        return ops.reshape(ops.matmul(ops.expand_dims(shares, 1), x), (-1, x.shape[2]))

    def compute_output_shape(self, x_shape, keep_shape=None):
        return (x_shape[0], x_shape[2])
