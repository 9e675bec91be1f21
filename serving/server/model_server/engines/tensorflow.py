"""TensorFlow: runs any signature of any SavedModel, in a session as TF Serving does. Imported only when it is needed."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from model_server.errors import Code, ServableError, ServingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model_server.signatures import Signature


def installed() -> bool:
    return find_spec("tensorflow") is not None


class TensorFlowEngine:
    name = "tensorflow"
    quick = False

    def __init__(self, folder: Path, signatures: Mapping[str, Signature], *, intra: int = 0, inter: int = 0) -> None:
        """Load and initialise. Raises ServableError with TensorFlow's own message."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        v1 = tf.compat.v1
        self._errors = tf.errors.OpError
        self._options: Any = v1.RunOptions
        self._signatures = signatures
        graph = tf.Graph()
        config = v1.ConfigProto(intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter)
        self._session = v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        except self._errors as error:
            raise ServableError(Code(error.error_code), error.message) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise ServableError(Code.INVALID_ARGUMENT, f"{folder}: {error}") from None

    def answers(self, signature: str) -> bool:
        return signature in self._signatures

    def run(
        self, signature: str, inputs: Mapping[str, NDArray], outputs: Sequence[str], timeout: float | None = None
    ) -> dict[str, NDArray]:
        proto = self._signatures[signature].proto
        fetches = [proto.outputs[name].name for name in outputs]
        feeds = {proto.inputs[name].name: array for name, array in inputs.items()}
        options = self._options(timeout_in_ms=max(1, int(timeout * 1000))) if timeout else None
        try:
            values = self._session.run(fetches, feeds, options=options)
        except self._errors as error:
            raise ServingError(Code(error.error_code), _plain(error.message)) from None
        except (ValueError, TypeError) as error:
            raise ServingError(Code.INVALID_ARGUMENT, str(error)) from None
        return {name: _array(value) for name, value in zip(outputs, values, strict=True)}


def _array(value: Any) -> NDArray:
    return np.array(value, object) if isinstance(value, (bytes, str)) else np.asarray(value)


def _plain(message: str) -> str:
    """TensorFlow's message without what its Python session adds below it."""
    return message.split("\n\nOriginal stack trace", 1)[0].split("\n\nErrors may have originated", 1)[0]
