"""tf_keras counterparts of our own Keras 3 layers: tensorflow-model-optimization works on tf_keras models only.

Only the weights are declared again, with which of them are pruned and clustered; the arithmetic is that of ``models/``,
called on these layers, so that there is one truth about it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.clustering.keras import ClusterableLayer
from tensorflow_model_optimization.sparsity.keras import PrunableLayer

from models import attention, recurrent

_as_it_stands = tf.autograph.experimental.do_not_convert  # Keras 3's functions are no code for autograph


class _Configured(tf_keras.layers.Layer):
    """A layer whose arguments are its attributes of the same name, so that it can be cloned."""

    arguments: tuple[str, ...] = ()

    def __init__(self, **options: Any) -> None:
        given = {name: options.pop(name) for name in self.arguments}
        super().__init__(**options)
        for name, value in given.items():
            setattr(self, name, value)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **{name: getattr(self, name) for name in self.arguments}}


class _WithKernel(_Configured, PrunableLayer, ClusterableLayer):
    """``kernel`` names the attribute that is pruned and clustered."""

    kernel_name = "kernel"

    def get_prunable_weights(self) -> list[Any]:
        return [getattr(self, self.kernel_name)]

    def get_clusterable_weights(self) -> list[tuple[str, Any]]:
        return [(self.kernel_name, getattr(self, self.kernel_name))]


class Project(_WithKernel):
    arguments = ("units",)

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], self.units))
        self.bias = self.add_weight("bias", (self.units,))
        super().build(shape)

    def call(self, x):
        return _as_it_stands(attention.Project.call)(self, x)


class TokenEmbedding(_WithKernel):
    arguments = ("vocabulary", "width")
    kernel_name = "token"

    def build(self, shape):
        self.token = self.add_weight("token", (self.vocabulary, self.width))
        self.place = self.add_weight("place", (shape[1], self.width))
        super().build(shape)

    def call(self, tokens):
        return _as_it_stands(attention.TokenEmbedding.call)(self, tokens)


class UnrolledLSTM(_WithKernel):
    """Both kernels are one weight here, ``gates``, as every file holds them: so it is that which has 16 values or the zeros."""

    arguments = ("units",)
    kernel_name = "gates"

    def build(self, shape):
        self.features = shape[-1]
        self.gates = self.add_weight("gates", (self.features + self.units, 4 * self.units))
        self.bias = self.add_weight("bias", (4 * self.units,))
        super().build(shape)

    @property
    def kernel(self):
        return self.gates[: self.features]

    @property
    def recurrent_kernel(self):
        return self.gates[self.features :]

    def call(self, inputs):
        return _as_it_stands(recurrent.UnrolledLSTM.call)(self, inputs)


class Norm(_Configured):
    """Layer normalisation over the last axis, by Keras 3's formula: tf_keras takes a fused one that TFLite converts worse."""

    arguments = ("epsilon",)

    def build(self, shape):
        self.gamma = self.add_weight("gamma", (shape[-1],))
        self.beta = self.add_weight("beta", (shape[-1],))
        super().build(shape)

    def call(self, x):
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return _as_it_stands(keras.ops.layer_normalization)(x, gamma, beta, axis=-1, epsilon=self.epsilon)


class Attend(_Configured):
    """What SelfAttention does between its projections: (query, key, value [N, length, width], keep) → [N, length, width]."""

    arguments = ("heads",)

    def call(self, tensors):
        query, key, value, keep = tensors
        projected = SimpleNamespace(
            heads=self.heads, query=lambda _: query, key=lambda _: key, value=lambda _: value, out=lambda x: x
        )
        return _as_it_stands(attention.SelfAttention.call)(projected, query, keep)


class TanhGelu(_Configured):
    def call(self, x):
        return _as_it_stands(attention.tanh_gelu)(x)


class Keep(_Configured):
    def call(self, tokens):
        return _as_it_stands(attention.Keep.call)(self, tokens)


class MeanOverText(_Configured):
    def call(self, tensors):
        return _as_it_stands(attention.MeanOverText.call)(self, *tensors)
