"""``keras``: the trained model in the process that trained it, as a Keras object. The reference for all others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from compare.target import Session, Target
from models.artifacts import sha256_file
from models.errors import TargetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.bundle import Export

    Tensors = dict[str, NDArray]


class KerasSession(Session):
    def __init__(self, export: Export) -> None:
        import tensorflow as tf

        from export.brought_keras import call, inputs_of, named_outputs
        from models.keras_file import load

        model = load(export.keras_file)
        names = [name for name, *_ in inputs_of(model, export.keras_file)]
        signature = {t.name: tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in export.spec.inputs}

        def answer(inputs: dict[str, Any]) -> dict[str, Any]:
            return named_outputs(call(model, [inputs[name] for name in names]))

        self._answer = tf.function(answer, input_signature=[signature], autograph=False)
        self._export = export

    def predict(self, inputs: Tensors) -> Tensors:
        import tensorflow as tf

        try:
            answer = self._answer({name: tf.constant(value) for name, value in inputs.items()})
        except Exception as error:  # TensorFlow raises many kinds for a request that does not fit
            raise TargetError(f"Keras refused the request: {str(error).strip().splitlines()[0]}") from error
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
        if not export.keras_file.is_file():
            return "there is no Keras file: a SavedModel was given, and it is the reference itself"
        if signature != "serving_default":
            return f"a Keras model has no signature {signature!r}"
        return None

    def prepare(self) -> None:
        import models.keras_file  # noqa: F401  # it imports Keras, and Keras TensorFlow

    def open(self, export: Export, signature: str = "serving_default") -> Session:
        return KerasSession(export)


TARGETS = [Keras()]
