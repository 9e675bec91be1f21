"""TensorFlow: runs any signature of any SavedModel, in a session as TF Serving does. Imported only when it is needed.

Requests go past ``Session.run`` to the C++ session below it, which keeps errors in their own words and costs less. Unlike
TF Serving, shapes are compared with the signature's first: a rank that a kernel does not expect can end the process.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from model_server.errors import Code, ServableError, ServingError
from model_server.signatures import check_shape

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

    def __init__(
        self, folder: Path, signatures: Mapping[str, Signature], *, tags: Sequence[str], intra: int = 0, inter: int = 0
    ) -> None:
        """Load and initialise. Raises ServableError with TensorFlow's own message."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
        first = "tensorflow" not in sys.modules
        import tensorflow as tf
        from tensorflow.python.client import pywrap_tf_session as c_api

        if first:
            gc.freeze()  # TensorFlow's modules stay for good: a collection need not look at their 270,000 objects
        tf.get_logger().setLevel("ERROR")
        v1 = tf.compat.v1
        self._errors = tf.errors.OpError
        self._options: Any = v1.RunOptions
        self._c_api: Any = c_api
        self._signatures = signatures
        self._ends: dict[str, Any] = {}  # tensor name → where it leaves its operation
        self._graph = graph = tf.Graph()
        config = v1.ConfigProto(intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter)
        self._session = v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                v1.saved_model.loader.load(self._session, list(tags), str(folder))
            self._session._extend_graph()
        except self._errors as error:
            raise ServableError(Code(error.error_code), _plain(error.message)) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise ServableError(Code.INVALID_ARGUMENT, f"{folder}: {error}") from None

    def answers(self, signature: str) -> bool:
        return signature in self._signatures

    def close(self) -> None:
        """Free session and graph. Their Python halves hold each other, so only a collection frees the memory."""
        self._session.close()
        self._ends.clear()
        del self._session, self._graph
        gc.collect()

    def run(
        self, signature: str, inputs: Mapping[str, NDArray], outputs: Sequence[str], timeout: float | None = None
    ) -> dict[str, NDArray]:
        called = self._signatures[signature]
        for name, array in inputs.items():
            check_shape(name, array.shape, called.shapes[name])
        proto = called.proto
        fetches = [self._end(proto.outputs[name].name) for name in outputs]
        feeds = {self._end(proto.inputs[name].name): array for name, array in inputs.items()}
        options = None
        if timeout:
            limits = self._options(timeout_in_ms=max(1, int(timeout * 1000)))
            options = self._c_api.TF_NewBufferFromString(limits.SerializeToString())
        try:
            values = self._session._call_tf_sessionrun(options, feeds, fetches, [], None)
        except self._errors as error:
            raise ServingError(Code(error.error_code), error.message) from None
        except UnicodeDecodeError as error:  # the message quotes the request's bytes, and Python cannot read it
            raise ServingError(Code.INVALID_ARGUMENT, error.object.decode("utf-8", "replace")) from None
        except (ValueError, TypeError) as error:
            raise ServingError(Code.INVALID_ARGUMENT, str(error)) from None
        finally:
            if options is not None:
                self._c_api.TF_DeleteBuffer(options)
        return {name: _array(value) for name, value in zip(outputs, values, strict=True)}

    def _end(self, tensor: str) -> Any:
        if tensor not in self._ends:
            self._ends[tensor] = self._graph.get_tensor_by_name(tensor)._as_tf_output()
        return self._ends[tensor]


def _array(value: Any) -> NDArray:
    return np.array(value, object) if isinstance(value, (bytes, str)) else np.asarray(value)


def _plain(message: str) -> str:
    """TensorFlow's message without what its Python session, which loads the model, writes above and below it."""
    message = message.removeprefix("Graph execution error:\n\n")
    return message.split("\n\nOriginal stack trace", 1)[0].split("\n\nErrors may have originated", 1)[0]
