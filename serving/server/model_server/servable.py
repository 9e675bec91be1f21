"""Servable: one loaded version of one model: its signatures, and the engines that answer them."""

from __future__ import annotations

import importlib.metadata
import threading
from time import perf_counter
from typing import TYPE_CHECKING

from model_server.batch_queue import Queue
from model_server.batching_parameters import parameters, read_common, read_own
from model_server.engines import tensorflow
from model_server.engines.litert import LiteRTEngine, file_signature
from model_server.engines.litert_examples import LiteRTExamples, read_example_signatures
from model_server.errors import Code, ServableError, ServingError, invalid
from model_server.signatures import DEFAULT, Signature, dtype_name, read_signatures
from model_server.tensors import BY_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model_server.batching_parameters import Parameters
    from model_server.engines import Engine, Stop
    from model_server.flags import Options

# A call that is expected to take less runs on the event loop itself: handing it to a thread costs about 50 µs.
QUICK_SECONDS = 0.001


class Servable:
    """Thread-safe. It lives as long as a request holds it, however early the manager lets it go."""

    def __init__(self, name: str, version: int, folder: Path, options: Options) -> None:
        """Load from ``folder``. Raises ServableError."""
        self.name, self.version, self.folder = name, version, folder
        # Called on a thread of the manager when nothing holds this servable any more; so they must not hold it either.
        self.closers: list[Callable[[], None]] = []
        self._options = options
        self.checks_method_names: bool = options.enable_signature_method_name_check
        self._lock = threading.Lock()
        self._tensorflow: Engine | None = None
        self._litert: LiteRTEngine | None = None
        self._light: dict[str, Engine] = {}  # what answers a signature without TensorFlow
        self.queues: dict[str, Queue] = {}  # of requests that wait for a batch, by signature; none without batching
        self._row_seconds: dict[str, float] = {}  # by signature: what a row of the slowest recent call took
        file = folder / "model.tflite"
        tags = frozenset(options.saved_model_tags.split(","))
        if options.prefer_tflite_model and file.is_file():
            if (folder / "saved_model.pb").is_file():
                self.signatures = read_signatures(folder, tags)
                self._litert = LiteRTEngine(file, also=self._equals_of_default())
                on_examples = read_example_signatures(folder, self._litert, self.signatures)
                self._light = dict.fromkeys(on_examples, LiteRTExamples(self._litert, on_examples))
            else:
                self._litert = LiteRTEngine(file)
                self.signatures = {DEFAULT: Signature(DEFAULT, file_signature(self._litert))}
            self.closers.append(self._litert.close)
            self._light.update({name: self._litert for name in self.signatures if self._litert.answers(name)})
        else:
            self.signatures = read_signatures(folder, tags)
            if not tensorflow.installed():
                raise ServableError(
                    Code.FAILED_PRECONDITION,
                    f"{folder} has no model.tflite, so it needs TensorFlow; "
                    'install the server with its extra "tensorflow", or publish a model.tflite beside saved_model.pb',
                )
            self._with_tensorflow()
        limits = _batching(folder, options) if options.enable_batching else None
        if limits is not None:
            free = (name for name, found in self.signatures.items() if found.takes_any_number_of_rows)
            self.queues = {name: Queue(limits) for name in free}

    def _equals_of_default(self) -> list[str]:
        """Signatures that differ from serving_default in no name and no dtype: the same graph for a fixed batch."""
        default = self.signatures.get(DEFAULT)
        if default is None:
            return []
        dtypes = {name: info.dtype for name, info in default.proto.outputs.items()}
        return [
            name
            for name, signature in self.signatures.items()
            if name == "static"
            and signature.inputs == default.inputs
            and {key: info.dtype for key, info in signature.proto.outputs.items()} == dtypes
        ]

    @property
    def engine_name(self) -> str:
        """The engine that answers serving_default."""
        return "litert" if self._litert is not None else "tensorflow"

    @property
    def light_signatures(self) -> list[str]:
        """The signatures that LiteRT answers."""
        return list(self._light)

    def describe(self) -> str:
        """The engine and its version, for the header ``x-model-server`` of metadata answers."""
        package = "ai-edge-litert" if self._litert is not None else "tensorflow"
        own, runtime = (importlib.metadata.version(name) for name in ("model-server", package))
        return f"model-server/{own}; engine={self.engine_name}; runtime={package} {runtime}"

    def signature(self, name: str) -> Signature | None:
        return self.signatures.get(name or DEFAULT)

    def engine(self, signature: str) -> Engine:
        """The engine that answers a signature. Raises ServingError FAILED_PRECONDITION where there is none."""
        return self._light.get(signature) or self._with_tensorflow(signature)

    def _with_tensorflow(self, signature: str = DEFAULT) -> Engine:
        with self._lock:
            if self._tensorflow is None:
                if not (self.folder / "saved_model.pb").is_file() or not tensorflow.installed():
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f'Signature "{signature}" of {self.name} needs TensorFlow, which this server does not have; '
                        'install it with the extra "tensorflow"',
                    )
                self._tensorflow = tensorflow.TensorFlowEngine(
                    self.folder,
                    self.signatures,
                    tags=self._options.saved_model_tags.split(","),
                    intra=self._options.tensorflow_intra_op_parallelism or self._options.tensorflow_session_parallelism,
                    inter=self._options.tensorflow_inter_op_parallelism or self._options.tensorflow_session_parallelism,
                )
                self.closers.append(self._tensorflow.close)
            return self._tensorflow

    def choose_outputs(self, signature: Signature, wanted: Sequence[str]) -> list[str]:
        """The outputs that an output_filter asks for; all of them when it is empty."""
        if not wanted:
            return signature.outputs
        for position, name in enumerate(wanted):
            if name not in signature.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {name} "
                    f"Outputs expected to be in the set {{{','.join(sorted(signature.outputs))}}}."
                )
            if name in wanted[:position]:
                raise invalid(f"duplicate output tensor alias: {name}")
        return list(wanted)

    def check_names(self, signature: Signature, sent: Mapping[str, object]) -> None:
        """Raises ServingError INVALID_ARGUMENT unless exactly the signature's inputs were sent."""
        inputs = signature.inputs
        if len(sent) == len(inputs) and all(map(sent.__contains__, inputs)):
            return
        if len(sent) != len(inputs):
            extra, missing = sent.keys() - inputs.keys(), inputs.keys() - sent.keys()
            raise invalid(
                f"input size does not match signature: {len(sent)}!={len(inputs)} "
                f"len({_set(sent)}) != len({_set(inputs)}). "
                f"Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
            )
        missed = next(name for name in inputs if name not in sent)
        raise invalid(
            f"Signature input alias: {missed}(feed name: {signature.proto.inputs[missed].name}) not found in request "
            f"and no default value provided. Inputs expected to be in the request {_set(sent)}, or default input "
            "alias set: "
        )

    def is_quick(self, signature: str, rows: int) -> bool:
        """Whether a request may run on the event loop: its engine allows it and earlier calls were short enough."""
        if signature not in self._light:
            return False
        seconds = self._row_seconds.get(signature)
        return seconds is not None and seconds * (rows or 1) < QUICK_SECONDS

    def run(
        self, signature: Signature, inputs: Mapping[str, NDArray], outputs: Sequence[str], stop: Stop | None = None
    ) -> dict[str, NDArray]:
        """Run one request on the engine of its signature, unless ``stop`` came first. Raises ServingError."""
        if stop is not None:
            stop.check()
        name = signature.name
        engine = self._light.get(name) or self._with_tensorflow(name)
        check_dtypes(signature, inputs)
        start = perf_counter()
        answer = engine.run(name, inputs, outputs, stop)
        per_row = (perf_counter() - start) / (rows_of(inputs) or 1)
        # A moving average: a slow model leaves the event loop soon, and one interrupted call does not drive a quick one off.
        self._row_seconds[name] = 0.8 * self._row_seconds.get(name, per_row) + 0.2 * per_row
        return answer


def _batching(folder: Path, options: Options) -> Parameters | None:
    """What a version's batches follow; None where they are not wanted. Raises ServableError."""
    if options.enable_per_model_batching_parameters:
        own = read_own(folder)
        return None if own is None else parameters(own)
    return parameters(read_common(options))


def check_dtypes(signature: Signature, inputs: Mapping[str, NDArray]) -> None:
    """Raises ServingError INVALID_ARGUMENT."""
    for key, dtype in signature.dtypes.items():
        if inputs[key].dtype != dtype:
            raise invalid(
                f"input {key} is of dtype {BY_DTYPE[inputs[key].dtype].name}, "
                f"but signature {signature.name} takes {dtype_name(signature.inputs[key])}"
            )


def rows_of(inputs: Mapping[str, NDArray]) -> int:
    for array in inputs.values():
        shape = array.shape
        return shape[0] if shape else 1
    return 1


def _set(names: object) -> str:
    return "{" + ",".join(sorted(names)) + "}"  # type: ignore[call-overload]
