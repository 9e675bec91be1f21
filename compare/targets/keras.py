"""``keras``: the trained model in the process that trained it, as a Keras object. The reference for all others."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from compare.target import Session, Target
from models.artifacts import sha256_file
from models.errors import ArtifactError, TargetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.bundle import Export

    Tensors = dict[str, NDArray]


class KerasSession(Session):
    def __init__(self, export: Export) -> None:
        import tensorflow as tf

        if not export.keras_file.is_file():
            raise ArtifactError(f"{export.keras_file} is missing; run `make deploy-all` to train it")
        if importlib.util.find_spec(f"models.{export.model}"):
            importlib.import_module(f"models.{export.model}")  # registers the model's own layers and losses
        try:
            model = tf.keras.models.load_model(export.keras_file, compile=False)
        except Exception as error:  # Keras raises many kinds for a file that it cannot read
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise TargetError(f"Keras cannot load {export.keras_file.name}: {reason}") from error
        self._export = export
        self._outputs = sorted((t.name for t in export.spec.outputs), key=_natural)
        signature = {t.name: tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in export.spec.inputs}
        single = next(iter(signature)) if len(signature) == 1 else None

        def answer(inputs: dict[str, Any]) -> Any:
            return model(inputs[single] if single else inputs, training=False)

        self._answer = tf.function(answer, input_signature=[signature])

    def predict(self, inputs: Tensors) -> Tensors:
        try:
            answer = self._answer(_tensors(inputs))
        except Exception as error:
            raise TargetError(f"Keras refused the request: {str(error).strip().splitlines()[0]}") from error
        if not isinstance(answer, dict):
            values = answer if isinstance(answer, (list, tuple)) else [answer]
            answer = dict(zip(self._outputs, values, strict=True))
        return {name: np.asarray(value) for name, value in answer.items()}

    def facts(self) -> dict[str, object]:
        import tensorflow as tf

        file = self._export.keras_file
        return {
            "artifact_bytes": file.stat().st_size,
            "artifact_sha256": sha256_file(file),
            "rss_bytes": psutil.Process().memory_info().rss,
            "runtime_version": f"keras {tf.keras.__version__}, tensorflow {tf.__version__}",
            "threads": tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
            "accelerator": None,
        }


class Keras(Target):
    name = "keras"

    def unsupported(self, export: Export, signature: str) -> str | None:
        if signature != "serving_default":
            return f"a Keras model has no signature {signature!r}"
        if not export.keras_file.is_file():
            return "there is no Keras file: a SavedModel was given, and it is the reference itself"
        return None

    def prepare(self) -> None:
        import tensorflow as tf

        _ = tf.keras.models.load_model  # TensorFlow loads Keras when it is first named

    def open(self, export: Export, signature: str = "serving_default") -> Session:
        return KerasSession(export)


def _tensors(inputs: Tensors) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(value) for name, value in inputs.items()}


def _natural(name: str) -> list[int | str]:
    """output_2 before output_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


TARGETS = [Keras()]
