"""TensorFlow: runs any signature of any SavedModel, in a session as TF Serving does. Imported only when it is needed.

Requests go past ``Session.run`` to the C++ session below it, which keeps errors in their own words and costs less. Unlike
TF Serving, shapes are compared with the signature's first: a rank that a kernel does not expect can end the process.

A graph runs on the thread of its call, one operation after the other (each may still use several threads itself): with
several requests at once nothing is lost by that, and a small model costs a third. --tensorflow_inter_op_parallelism of
2 or more brings the pool of threads back.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model_server.engines.tensorflow_stop import Switches
from model_server.errors import Code, ServableError, ServingError
from model_server.signatures import check_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model_server.engines import Stop
    from model_server.signatures import Signature

# Output filters that have a prepared step of their own; each holds a pruned copy of the graph. Beyond it, steps are
# prepared for one call.
MAX_STEPS = 64
# Places that a prepared step writes around a message that names its place itself: functions before it, calls of them behind.
_PLACES = re.compile(r"^(\{\{function_node [^}]*\}\} )+|(\n\t \[\[[^{}\]]*\]\])+$")
ON_CALLERS_THREAD = -1  # RunOptions.inter_op_thread_pool


def installed() -> bool:
    return find_spec("tensorflow") is not None


class Step(NamedTuple):
    """A prepared run: arrays in the order of ``feeds`` (and a switch, last) → arrays in the order of ``fetches``."""

    run: Callable[..., list[Any]]
    feeds: list[str]
    fetches: list[str]
    switched: bool


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
        from tensorflow.core.protobuf.config_pb2 import CallableOptions

        if first:
            gc.freeze()  # TensorFlow's modules stay for good: a collection need not look at their 270,000 objects
        tf.get_logger().setLevel("ERROR")
        v1 = tf.compat.v1
        self._errors = tf.errors.OpError
        self._new_options: Any = CallableOptions
        self._pool = 0 if inter > 1 else ON_CALLERS_THREAD
        self._signatures = signatures
        self._steps: dict[tuple[str, tuple[str, ...]], Step] = {}
        self._lock = threading.Lock()  # of what changes the graph
        self._graph = graph = tf.Graph()
        config = v1.ConfigProto(intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter)
        self._session = v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                v1.saved_model.loader.load(self._session, list(tags), str(folder))
                self._switches = Switches(tf)
                for signature in signatures.values():
                    fetches = self._fetches(signature, signature.outputs)
                    if _are_tensors(fetches):
                        self._switches.add(fetches)
            chosen = [self._switches.chosen]
            self._throw = self._callable(chosen, [], [self._switches.throw], pool=ON_CALLERS_THREAD)
            self._reset = self._callable(chosen, [self._switches.left], [], pool=ON_CALLERS_THREAD)
        except self._errors as error:
            raise ServableError(Code(error.error_code), _plain(error.message)) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise ServableError(Code.INVALID_ARGUMENT, f"{folder}: {error}") from None

    def answers(self, signature: str) -> bool:
        return signature in self._signatures

    def close(self) -> None:
        """Free session and graph. Their Python halves hold each other, so only a collection frees the memory."""
        self._steps.clear()
        self._session.close()
        del self._session, self._graph, self._switches, self._throw, self._reset
        gc.collect()

    def run(
        self, signature: str, inputs: Mapping[str, NDArray], outputs: Sequence[str], stop: Stop | None = None
    ) -> dict[str, NDArray]:
        called = self._signatures[signature]
        for name, array in inputs.items():
            check_shape(name, array.shape, called.shapes[name])
        fed = {called.proto.inputs[name].name: array for name, array in inputs.items()}
        fetched = [called.proto.outputs[name].name for name in outputs]
        try:
            step = self._steps.get((signature, tuple(outputs))) or self._step(called, list(fed), outputs)
            arrays = [fed[name] for name in step.feeds]
            values = self._run_switched(step, arrays, stop) if step.switched else step.run(*arrays)
        except self._errors as error:
            if stop is not None:
                stop.check()
            raise ServingError(Code(error.error_code), _PLACES.sub("", error.message)) from None
        except UnicodeDecodeError as error:  # the message quotes the request's bytes, and Python cannot read it
            message = error.object.decode("utf-8", "replace")
            raise ServingError(Code.INVALID_ARGUMENT, _PLACES.sub("", message)) from None
        except (ValueError, TypeError, KeyError) as error:
            raise ServingError(Code.INVALID_ARGUMENT, str(error)) from None
        found = dict(zip(step.fetches, values, strict=True))
        return {name: _array(found[tensor]) for name, tensor in zip(outputs, fetched, strict=True)}

    def _run_switched(self, step: Step, arrays: list[NDArray], stop: Stop | None) -> list[Any]:
        """Run with a switch that ``stop`` throws."""
        switch = self._switches.take()
        clean = False
        try:
            if stop is None:
                values = step.run(*arrays, switch)
            else:
                stop.bind(partial(self._throw, switch))
                try:
                    values = step.run(*arrays, switch)
                finally:
                    stop.bind(None)
            clean = stop is None or not stop.stopped
            return values
        finally:
            if not clean:
                self._reset(switch)
            self._switches.put_back(switch)

    def _step(self, signature: Signature, feeds: list[str], outputs: Sequence[str]) -> Step:
        key = signature.name, tuple(outputs)
        with self._lock:
            if key in self._steps:
                return self._steps[key]
            fetches = self._fetches(signature, outputs)
            if len(self._steps) >= MAX_STEPS or not _are_tensors(fetches):
                return Step(self._callable(feeds, fetches, []), feeds, fetches, switched=False)
            with self._graph.as_default():
                watched = self._switches.add(fetches)
            run = self._callable([*feeds, self._switches.chosen], fetches, watched)
            step = self._steps[key] = Step(run, feeds, fetches, switched=True)
            return step

    @staticmethod
    def _fetches(signature: Signature, outputs: Sequence[str]) -> list[str]:
        """Their tensors, each once, however many outputs share it."""
        return sorted({signature.proto.outputs[name].name for name in outputs})

    def _callable(
        self, feeds: list[str], fetches: list[str], targets: list[str], *, pool: int | None = None
    ) -> Callable[..., list[Any]]:
        options = self._new_options(feed=feeds, fetch=fetches, target=targets)
        options.run_options.inter_op_thread_pool = self._pool if pool is None else pool
        return self._session._make_callable_from_options(options)


def _are_tensors(names: list[str]) -> bool:
    """Not so for __saved_model_init_op, whose output is an operation; and without any there is nothing to wait for."""
    return bool(names) and all(":" in name for name in names)


def _array(value: Any) -> NDArray:
    return np.array(value, object) if isinstance(value, (bytes, str)) else np.asarray(value)


def _plain(message: str) -> str:
    """TensorFlow's message without what its Python session, which loads the model, writes above and below it."""
    message = message.removeprefix("Graph execution error:\n\n")
    return message.split("\n\nOriginal stack trace", 1)[0].split("\n\nErrors may have originated", 1)[0]
