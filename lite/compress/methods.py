"""What tensorflow-model-optimization does to a twin: wrapped for training, and taken out of its wrappers afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow_model_optimization as tfmot
import tf_keras

from lite.compress import layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from lite.compress.settings import Settings


@dataclass(frozen=True)
class Method:
    """``wrap(twin, settings, steps per epoch)`` gives the model that is trained, ``strip`` the one that is exported."""

    wrap: Callable[[tf_keras.Model, Settings, int], tf_keras.Model]
    strip: Callable[[tf_keras.Model], tf_keras.Model]
    callbacks: Callable[[], list[Any]] = list
    gradual: bool = False  # whether the first half of the epochs only leads to the wanted model


def _has_kernel(layer: Any) -> bool:
    return isinstance(layer, (tf_keras.layers.Dense, tf_keras.layers.Conv2D, tfmot.sparsity.keras.PrunableLayer))


def _each_kernel(twin: tf_keras.Model, wrap: Callable[[Any], Any]) -> tf_keras.Model:
    """The same model with every layer that has a kernel wrapped; the weights are the twin's own."""
    return tf_keras.models.clone_model(twin, clone_function=lambda layer: wrap(layer) if _has_kernel(layer) else layer)


def _prune(twin: tf_keras.Model, settings: Settings, steps: int) -> tf_keras.Model:
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=settings.sparsity,
        begin_step=0,
        end_step=settings.gradual_epochs * steps,
        frequency=max(1, steps // 10),
    )
    return _each_kernel(twin, lambda layer: tfmot.sparsity.keras.prune_low_magnitude(layer, schedule))


def _cluster(twin: tf_keras.Model, settings: Settings, steps: int) -> tf_keras.Model:
    start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    return _each_kernel(
        twin,
        lambda layer: tfmot.clustering.keras.cluster_weights(layer, settings.clusters, cluster_centroids_init=start),
    )


def _learn_ranges(twin: tf_keras.Model, *_: Any) -> tf_keras.Model:
    own = {name: kind for name, kind in vars(layers).items() if isinstance(kind, type)}
    with tfmot.quantization.keras.quantize_scope(own):
        return tfmot.quantization.keras.quantize_model(twin)


METHODS = {
    "pruned": Method(
        _prune,
        tfmot.sparsity.keras.strip_pruning,
        callbacks=lambda: [tfmot.sparsity.keras.UpdatePruningStep()],
        gradual=True,
    ),
    "clustered": Method(_cluster, tfmot.clustering.keras.strip_clustering),
    # Nothing is stripped: the fake quantization holds the ranges that the file needs.
    "qat": Method(_learn_ranges, lambda model: model),
}
