"""What a request was, how long each of its parts took, and how it ended: for the metrics and the request log.

Only a server that has an observer is built with these classes; without one, requests pass none of this.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import lru_cache
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf.message import DecodeError

from model_server.core import Core
from model_server.errors import Code, ServingError
from model_server.protos import declare
from model_server.rest import RestApplication, named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from model_server.grpc_methods import Method
    from model_server.monitoring import Monitor
    from model_server.servable import Servable
    from model_server.signatures import Signature

_SERVICE = "/tensorflow.serving.PredictionService/"


class Call:
    """One request. Times in seconds."""

    # What most requests leave as it is costs them nothing here.
    code = Code.OK
    model = ""
    answer = b""
    seconds = 0.0
    # What ran last, where the request came so far, and what went in and out.
    servable: Servable | None = None
    signature: Signature | None = None
    inputs: Mapping[str, NDArray] = MappingProxyType({})
    outputs: Mapping[str, NDArray] = inputs
    queue = 0.0  # waiting for a thread or a batch
    compute = 0.0
    batched = False  # it shared its run with others

    def __init__(self, protocol: str, api: str, body: bytes) -> None:
        self.protocol = protocol  # "GRPC" or "REST"
        self.api = api  # "Predict", "Classify", "Regress", "MultiInference"; "" for REST's status and metadata
        self.body = body


class Observer(Protocol):
    def ended(self, call: Call) -> None:
        """Called on the event loop of the request's protocol. It must not raise, and not hold the servable."""


class Observers:
    """Those who are told of each call. ``in_flight`` counts, by protocol, the calls that have not ended."""

    def __init__(self, observers: Sequence[Observer], in_flight: dict[str, int]) -> None:
        self._ended = [observer.ended for observer in observers]
        self._in_flight = in_flight  # each number is written by its protocol's event loop alone

    def begin(self, call: Call) -> float:
        """Makes ``call`` the current one; returns the time for ``end``."""
        CURRENT.set(call)
        self._in_flight[call.protocol] += 1
        return perf_counter()

    def end(self, call: Call, start: float, error: BaseException | None = None) -> None:
        call.seconds = perf_counter() - start
        self._in_flight[call.protocol] -= 1
        if error is not None:
            call.code = _code(error)
        if call.servable is not None:
            call.model = call.servable.name
        elif call.protocol == "GRPC":
            call.model = _model_name(call)
        for ended in self._ended:
            ended(call)
        # Nothing may hold a servable longer than its requests, and a connection's own context may keep this call.
        call.servable, call.inputs, call.outputs = None, Call.inputs, Call.outputs
        CURRENT.set(None)


CURRENT: ContextVar[Call | None] = ContextVar("call", default=None)


class MeasuredPool(ThreadPoolExecutor):
    """Writes into the call that submits a task how long it waited and ran."""

    def submit(self, task: Callable[..., Any], /, *args: Any, **options: Any) -> Future:
        call = CURRENT.get()
        if call is None:
            return super().submit(task, *args, **options)
        return super().submit(_measured, call, perf_counter(), task, args, options)


def _measured(call: Call, submitted: float, task: Callable[..., Any], args: Any, options: Any) -> Any:
    start = perf_counter()
    call.queue = start - submitted
    try:
        return task(*args, **options)
    finally:
        call.compute = perf_counter() - start


class ObservedCore(Core):
    def _new_pool(self, threads: int) -> ThreadPoolExecutor:
        return MeasuredPool(threads, thread_name_prefix="predict")

    async def predict(
        self,
        servable: Servable,
        signature: Signature,
        inputs: Mapping[str, NDArray],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> dict[str, NDArray]:
        call = CURRENT.get()
        if call is None:
            return await super().predict(servable, signature, inputs, outputs, timeout)
        call.servable, call.signature, call.inputs = servable, signature, inputs
        start = perf_counter()
        results = await super().predict(servable, signature, inputs, outputs, timeout)
        if not call.compute:  # on the event loop itself
            call.compute = perf_counter() - start
        call.outputs = results
        return results

    def _was_batched(self, queue_seconds: float, compute_seconds: float) -> None:
        call = CURRENT.get()
        if call is not None:
            call.queue, call.compute, call.batched = queue_seconds, compute_seconds, True


class ObservedRest(RestApplication):
    """``monitor`` has a page here; None: metrics are off."""

    def __init__(self, core: Core, observers: Observers, monitor: Monitor | None) -> None:
        super().__init__(core)
        self._observers, self._monitor = observers, monitor

    async def _answer(self, scope: dict[str, Any], body: bytes) -> tuple[int, list, bytes]:
        if self._monitor is not None:
            page = self._monitor.page(scope["raw_path"], scope["query_string"])
            if page is not None:
                return page[0], [(b"content-type", self._monitor.content_type)], page[1]
        asked = _asked(scope["method"], scope["raw_path"], scope["query_string"])
        if asked is None:
            return await super()._answer(scope, body)
        call = Call("REST", asked[1], body)
        call.model = asked[0]
        start = self._observers.begin(call)
        try:
            status, headers, call.answer = await super()._answer(scope, body)
        except BaseException as error:
            self._observers.end(call, start, error)
            raise
        if status != 200:  # not by an exception: an answer without TF Serving's JSON
            call.code = Code.INVALID_ARGUMENT
        self._observers.end(call, start)
        return status, headers, call.answer


@lru_cache(maxsize=128)
def _asked(method: str, raw_path: bytes, query: bytes) -> tuple[str, str] | None:
    """Model and API of a request; None for one that TF Serving's handler is never given, or does not look at."""
    if raw_path[:4].lower() != b"/v1/" or method == "OPTIONS":
        return None
    name, verb = named(method, raw_path, query)
    return name, verb.capitalize()


def observed(methods: Mapping[str, Method], observers: Observers) -> dict[str, Method]:
    """The gRPC methods, those that run a model observed."""

    def observe(api: str, method: Method) -> Method:
        async def run(body: bytes, timeout: float | None) -> bytes:
            call = Call("GRPC", api, body)
            start = observers.begin(call)
            try:
                call.answer = await method(body, timeout)
            except BaseException as error:
                observers.end(call, start, error)
                raise
            observers.end(call, start)
            return call.answer

        return run

    apis = {_SERVICE + api: api for api in ("Predict", "Classify", "Regress", "MultiInference")}
    return {path: observe(apis[path], method) if path in apis else method for path, method in methods.items()}


def _code(error: BaseException) -> Code:
    if isinstance(error, ServingError):
        return error.code
    if isinstance(error, RecursionError):  # JSON nested too deeply
        return Code.INVALID_ARGUMENT
    return Code.CANCELLED if isinstance(error, asyncio.CancelledError) else Code.INTERNAL


# Field 1 of the requests, which is all that is read of a request that failed.
_OneModel = declare("OneModelRequest", model_spec="tensorflow.serving.ModelSpec")
_Tasks = declare("TasksRequest", tasks="repeated tensorflow.serving.InferenceTask")


def _model_name(call: Call) -> str:
    try:
        if call.api == "MultiInference":
            return _Tasks.FromString(call.body).tasks[0].model_spec.name
        return _OneModel.FromString(call.body).model_spec.name
    except (DecodeError, IndexError):
        return ""
