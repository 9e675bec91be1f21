"""The twin: the trained Keras 3 core again, layer by layer, as a tf_keras functional model with the same weights.

BatchNorm is folded into the convolution before it, as the TFLite converter would do later: what is pruned or clustered
is then the kernel that the file holds. A block of the transformer becomes its small layers, each with a kernel of its own.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import tf_keras

from lite.compress import layers
from models.errors import ModelError

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

TOLERANCE = 1e-5  # the same float32 arithmetic in another order; more means that the twin is another model


def make_twin(core: keras.Model) -> tf_keras.Model:
    """A new twin of ``core``; its answers are not compared yet. Raises ModelError for a layer without counterpart."""
    if len(core.inputs) != 1 or len(core.outputs) != 1:
        raise ModelError(
            f"compression knows cores with one input and one output; this one has {len(core.inputs)} and {len(core.outputs)}"
        )
    return _Builder(core).model()


def check_twin(twin: tf_keras.Model, core: keras.Model, rows: NDArray) -> float:
    """The largest difference of their answers to ``rows``. Raises ModelError when it is over the tolerance."""
    difference = float(np.abs(twin(rows).numpy() - np.asarray(core(rows))).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the tf_keras twin answers differently by {difference:.2g}, more than {TOLERANCE:.0e}; "
            "lite/compress/twin.py has to follow the model's layers"
        )
    return difference


class _Builder:
    def __init__(self, core: keras.Model) -> None:
        self.core = core
        self.weights: list[tuple[Any, list[NDArray]]] = []

    def model(self) -> tf_keras.Model:
        given = self.core.inputs[0]
        start = tf_keras.Input(given.shape[1:], dtype=given.dtype, name=given.name)
        graph = _graph(self.core)
        folds = {sources[0]: name for name, sources in graph.items() if self._folds(name, sources)}
        tensors: dict[str, Any] = {}  # the output of each layer of the core, by its name
        for name, sources in graph.items():
            inputs = [tensors.get(source, start) for source in sources]
            if name in folds.values():
                tensors[name] = inputs[0]
            else:
                after = self.core.get_layer(folds[name]) if name in folds else None
                tensors[name] = self._add(self.core.get_layer(name), inputs, after)
        made = tf_keras.Model(start, tensors[name], name="core")
        for twin, values in self.weights:
            twin.set_weights(values)
        return made

    def _folds(self, name: str, sources: list[str]) -> bool:
        """Whether the layer is a BatchNormalization right after a convolution without bias and activation."""
        if type(self.core.get_layer(name)).__name__ != "BatchNormalization":
            return False
        before = self.core.get_layer(sources[0])
        return type(before).__name__ == "Conv2D" and before.activation.__name__ == "linear" and not before.use_bias

    def _add(self, layer: keras.layers.Layer, inputs: list[Any], normalisation: keras.layers.Layer | None) -> Any:
        """The counterpart of one layer, called on ``inputs``."""
        kind = type(layer).__name__
        if kind == "Block":
            return self._block(layer, *inputs)
        if kind == "Conv2D" and normalisation is not None:
            return self._call(_stock(layer, use_bias=True), inputs, _folded(layer, normalisation))
        weights = [np.asarray(w) for w in layer.weights]
        if kind == "LayerNormalization":
            return self._normalise(layer, inputs[0])
        if kind == "UnrolledLSTM":
            kernel, recurrent_kernel, bias = weights
            weights = [np.concatenate([kernel, recurrent_kernel]), bias]
        if kind in ("Project", "TokenEmbedding", "UnrolledLSTM", "Keep", "MeanOverText"):
            counterpart = getattr(layers, kind)
            arguments = {name: getattr(layer, name) for name in counterpart.arguments}
            return self._call(counterpart(name=layer.name, **arguments), inputs, weights)
        if not hasattr(tf_keras.layers, kind) or type(layer).__module__.startswith("models."):
            raise ModelError(
                f"the layer {layer.name!r} ({kind}) has no counterpart in tf_keras, which compression trains; "
                "add one to lite/compress/layers.py"
            )
        return self._call(_stock(layer), inputs, weights)

    def _block(self, block: keras.layers.Layer, x: Any, keep: Any) -> Any:
        """models.attention.Block as its layers: the same sums, each projection a layer of its own."""

        def named(name: str) -> str:
            return f"{block.name}_{name}"

        def project(layer: keras.layers.Layer, value: Any) -> Any:
            twin = layers.Project(units=layer.units, name=named(layer.name))
            return self._call(twin, [value], [np.asarray(w) for w in layer.weights])

        def add(name: str, x: Any, change: Any) -> Any:
            dropped = tf_keras.layers.Dropout(block.rate, name=named(f"{name}_dropout"))(change)
            return tf_keras.layers.Add(name=named(name))([x, dropped])

        attention = block.attention
        normal = self._normalise(block.before_attention, x, named("before_attention"))
        projected = [project(layer, normal) for layer in (attention.query, attention.key, attention.value)]
        mixed = layers.Attend(heads=attention.heads, name=named("attend"))([*projected, keep])
        x = add("after_attention", x, project(attention.out, mixed))
        wide = project(block.widen, self._normalise(block.before_mlp, x, named("before_mlp")))
        return add("after_mlp", x, project(block.narrow, layers.TanhGelu(name=named("gelu"))(wide)))

    def _normalise(self, layer: keras.layers.Layer, x: Any, name: str | None = None) -> Any:
        twin = layers.Norm(epsilon=layer.epsilon, name=name or layer.name)
        return self._call(twin, [x], [np.asarray(layer.gamma), np.asarray(layer.beta)])

    def _call(self, twin: Any, inputs: list[Any], weights: list[NDArray]) -> Any:
        self.weights.append((twin, weights))
        return twin(inputs[0] if len(inputs) == 1 else inputs)


def _graph(core: keras.Model) -> dict[str, list[str]]:
    """Layer → the layers whose outputs it takes, in the order of the calls; from the model's own configuration."""
    graph: dict[str, list[str]] = {}
    before: list[str] = []
    for entry in json.loads(core.to_json())["config"]["layers"]:
        name = entry["config"]["name"]
        if entry["class_name"] != "InputLayer":
            nodes = entry.get("inbound_nodes")
            if nodes and len(nodes) > 1:
                raise ModelError(
                    f"the layer {name!r} is called {len(nodes)} times; compression knows layers called once"
                )
            graph[name] = _histories(nodes[0]["args"]) if nodes else before  # a Sequential model has no nodes
        before = [name]
    return graph


def _histories(value: Any) -> list[str]:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return [value["config"]["keras_history"][0]]
    return [name for part in value for name in _histories(part)] if isinstance(value, list) else []


def _folded(convolution: keras.layers.Layer, normalisation: keras.layers.Layer) -> list[NDArray]:
    """Kernel and bias of the convolution and the normalisation after it (Jacob et al. 2018, section 3.2)."""
    gamma, beta, mean, variance = (
        np.asarray(w)
        for w in (normalisation.gamma, normalisation.beta, normalisation.moving_mean, normalisation.moving_variance)
    )
    factor = gamma / np.sqrt(variance + normalisation.epsilon)
    return [np.asarray(convolution.kernel) * factor, beta - mean * factor]


def _stock(layer: keras.layers.Layer, **changes: Any) -> tf_keras.layers.Layer:
    """The tf_keras layer of the same class, with those settings that both know. Weights come later, so initializers stay out."""
    kind = getattr(tf_keras.layers, type(layer).__name__)
    known = {"name", *inspect.signature(kind.__init__).parameters} - {"self", "kwargs", "seed"}
    config = {
        name: value
        for name, value in layer.get_config().items()
        if name in known and not name.endswith(("_initializer", "_regularizer", "_constraint"))
    }
    return kind(**{**config, **changes})
