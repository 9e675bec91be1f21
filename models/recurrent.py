"""UnrolledLSTM: a recurrent layer with one body that every runtime can run.

Per step one ``matmul(concat([x_t, h]), W)`` and a bias, for a number of steps that is known when the graph is made.
As it stands, TFLite's converter recognises the function by its attributes (``api_implements = "lstm_…"``) and its six
arguments, and fuses it to one UNIDIRECTIONAL_SEQUENCE_LSTM, which quantizes well but keeps state between calls.
With ``api_implements`` taken out of the SavedModel's function library, the same SavedModel converts to the unrolled
plain operations, which TF.js, LiteRT.js and static servers run::

    proto = saved_model_pb2.SavedModel.FromString(pb.read_bytes())
    for function in proto.meta_graphs[0].graph_def.library.function:
        function.attr.pop("api_implements", None)
    pb.write_bytes(proto.SerializeToString())          # in a temporary copy; the export itself stays untouched
"""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("export_once")
class UnrolledLSTM(keras.layers.Layer):
    """float32 [N, steps, features] → the last hidden state [N, units]. Gates in Keras's order: input, forget, cell, output."""

    def __init__(self, units: int, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        features = shape[-1]
        self.kernel = self.add_weight(shape=(features, 4 * self.units), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, 4 * self.units), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(4 * self.units,), initializer=_forget_gate_open, name="bias")

    def call(self, inputs):
        zeros = tf.zeros([tf.shape(inputs)[0] if inputs.shape[0] is None else inputs.shape[0], self.units])
        weights = (tf.convert_to_tensor(w) for w in (self.kernel, self.recurrent_kernel, self.bias))
        last, *_ = _recurrence(f"lstm_{self.name}")(inputs, zeros, zeros, *weights)
        return last

    def compute_output_shape(self, shape):
        return (shape[0], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def _forget_gate_open(shape, dtype=None):
    """Zeros, and ones for the forget gate: memory is kept until training says otherwise."""
    units = shape[0] // 4
    return tf.concat([tf.zeros([units]), tf.ones([units]), tf.zeros([2 * units])], 0)


def _recurrence(implements: str):
    """The function that TFLite's converter knows; its arguments, results and attributes are the converter's contract
    (tensorflow/compiler/mlir/lite/utils/lstm_utils.cc, ConvertKerasLSTMLayer)."""

    def body(inputs, init_h, init_c, kernel, recurrent_kernel, bias):
        hidden, cell, states = init_h, init_c, []
        gates = tf.concat([kernel, recurrent_kernel], 0)
        for step in tf.unstack(inputs, axis=1):
            z = tf.nn.bias_add(tf.matmul(tf.concat([step, hidden], 1), gates), bias)
            i, f, c, o = tf.split(z, 4, axis=1)
            cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(c)
            hidden = tf.sigmoid(o) * tf.tanh(cell)
            states.append(hidden)
        return hidden, tf.stack(states, 1), hidden, cell, tf.constant(1.0)

    attributes = {
        "api_implements": implements,
        "api_preferred_device": "CPU",
        "time_major": False,
        "go_backwards": False,
    }
    return tf.function(body, experimental_attributes=attributes, autograph=False)
