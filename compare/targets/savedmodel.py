"""``savedmodel``: the export itself, loaded with TensorFlow, asked through its named signature."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import psutil

from compare.target import Session, Target
from models.errors import ArtifactError, TargetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.bundle import Export

    Tensors = dict[str, NDArray]


class SavedModelSession(Session):
    def __init__(self, export: Export, signature: str) -> None:
        import tensorflow as tf

        if not export.saved_model.is_dir():
            raise ArtifactError(f"{export.saved_model} is missing; run `make deploy-all` to export it")
        self._loaded = tf.saved_model.load(str(export.saved_model))  # the signature does not keep its variables alive
        if signature not in self._loaded.signatures:
            raise TargetError(
                f"{export.model} has no signature {signature!r}; it has: {', '.join(sorted(self._loaded.signatures))}"
            )
        self._signature = self._loaded.signatures[signature]
        self._export = export

    def predict(self, inputs: Tensors) -> Tensors:
        import tensorflow as tf

        try:
            answer = self._signature(**{name: tf.constant(value) for name, value in inputs.items()})
        except Exception as error:
            raise TargetError(f"TensorFlow refused the request: {str(error).strip().splitlines()[0]}") from error
        return {name: np.asarray(value) for name, value in answer.items()}

    def facts(self) -> dict[str, object]:
        import tensorflow as tf

        files = [file for file in self._export.saved_model.rglob("*") if file.is_file()]
        return {
            "artifact_bytes": sum(file.stat().st_size for file in files),
            "artifact_sha256": self._export.sha256,
            "rss_bytes": psutil.Process().memory_info().rss,
            "runtime_version": f"tensorflow {tf.__version__}",
            "threads": tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
            "accelerator": None,
        }


class SavedModel(Target):
    name = "savedmodel"

    def unsupported(self, export: Export, signature: str) -> str | None:
        signatures = export.description.get("signatures")
        if signatures and signature not in signatures:
            return f"the SavedModel has no signature {signature!r}"
        return None

    def prepare(self) -> None:
        import tensorflow  # noqa: F401

    def open(self, export: Export, signature: str = "serving_default") -> Session:
        return SavedModelSession(export, signature)


TARGETS = [SavedModel()]
