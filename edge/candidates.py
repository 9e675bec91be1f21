"""What is measured: a .tflite file on a runtime, or the SavedModel on TensorFlow where that is installed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edge.errors import EdgeError, ModelFileError
from edge.runtime import LiteModel, read_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]

SAVED_MODEL = "tensorflow-savedmodel"  # the runtime of the rows that no .tflite file has part in


class Answering(Protocol):
    """One loaded model. ``invoke`` is what the runtime does, ``predict`` what a caller waits for: raw units in and out."""

    def prepare(self, inputs: Tensors) -> Any: ...
    def invoke(self, prepared: Any) -> Any: ...
    def predict(self, inputs: Tensors) -> Tensors: ...


@dataclass(frozen=True)
class Candidate:
    """``path`` is the .tflite file or the SavedModel's folder; the model and version are those of the path."""

    path: Path
    runtime: str
    delegate: str | None = None
    threads: int = 1

    @property
    def saved_model(self) -> bool:
        return self.runtime == SAVED_MODEL

    @property
    def model(self) -> str:
        return self.path.parent.name if self.saved_model else self.path.parent.parent.name

    @property
    def version(self) -> int:
        return int(self.path.name if self.saved_model else self.path.parent.name)

    @property
    def variant(self) -> str:
        return "savedmodel" if self.saved_model else self.path.stem

    @property
    def bytes(self) -> int:
        files = self.path.rglob("*") if self.saved_model else [self.path]
        return sum(file.stat().st_size for file in files if file.is_file())

    def sha256(self) -> str | None:
        """Of the .tflite file. Raises ModelFileError when it is missing, or not the one that its json describes."""
        return None if self.saved_model else read_model(self.path)[0]["sha256"]

    def open(self) -> Answering:
        """Load it. Raises EdgeError, one sentence."""
        if self.saved_model:
            return SavedModel(self.path, threads=self.threads)
        return LiteModel(self.path, threads=self.threads, runtime=self.runtime, delegate=self.delegate)


class SavedModel:
    """``serving_default`` in this process. TensorFlow takes its number of threads once for the whole process."""

    def __init__(self, path: Path, *, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf

        self._constant = tf.constant
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
            self._loaded = tf.saved_model.load(str(path))  # the signature does not keep its variables alive
            self._signature = self._loaded.signatures["serving_default"]
        except KeyError:
            raise ModelFileError(f"{path} has no signature serving_default") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelFileError(f"TensorFlow cannot load {path}: {str(error).splitlines()[0]}") from error

    def prepare(self, inputs: Tensors) -> Any:
        return {name: self._constant(value) for name, value in inputs.items()}

    def invoke(self, prepared: Any) -> Any:
        return self._signature(**prepared)

    def predict(self, inputs: Tensors) -> Tensors:
        try:
            return {name: value.numpy() for name, value in self.invoke(self.prepare(inputs)).items()}
        except Exception as error:
            raise EdgeError(f"TensorFlow refused the rows: {str(error).strip().splitlines()[0]}") from error
