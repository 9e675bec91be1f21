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

    def __init__(self, protocol: str, api: str, body: bytes) -> None:
        self.protocol = protocol  # "GRPC" or "REST"
        self.api = api  # "Predict", "Classify", "Regress", "MultiInference"; "" for REST's status and metadata
        self.body = body


class Observer(Protocol):
    def started(self, call: Call) -> None:
        """Called on the event loop of the request's protocol."""

    def ended(self, call: Call) -> None:
        """The same, once for each started call. It must not raise."""


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


class ObservedRest(RestApplication):
    """``monitor`` has a page here; None: metrics are off."""

    def __init__(self, core: Core, observers: Sequence[Observer], monitor: Monitor | None) -> None:
        super().__init__(core)
        self._observers, self._monitor = observers, monitor

    async def _answer(self, scope: dict[str, Any], body: bytes) -> tuple[int, list, bytes]:
        if self._monitor is not None:
            page = self._monitor.page(scope["raw_path"], scope["query_string"])
            if page is not None:
                return page[0], [(b"content-type", self._monitor.content_type)], page[1]
        name, verb = _named(scope["method"], scope["raw_path"], scope["query_string"])
        call = Call("REST", verb.capitalize(), body)
        call.model = name
        with _Observed(call, self._observers):
            status, headers, answer = await super()._answer(scope, body)
            if status != 200:  # not by an exception: an answer without TF Serving's JSON
                call.code = Code.INVALID_ARGUMENT if status == 400 else Code.NOT_FOUND
            call.answer = answer
        return status, headers, answer


_named = lru_cache(maxsize=1024)(named)


def observed(methods: Mapping[str, Method], observers: Sequence[Observer]) -> dict[str, Method]:
    """The gRPC methods, those that run a model observed."""

    def observe(api: str, method: Method) -> Method:
        async def run(body: bytes, timeout: float | None) -> bytes:
            call = Call("GRPC", api, body)
            with _Observed(call, observers):
                call.answer = await method(body, timeout)
            return call.answer

        return run

    apis = {_SERVICE + api: api for api in ("Predict", "Classify", "Regress", "MultiInference")}
    return {path: observe(apis[path], method) if path in apis else method for path, method in methods.items()}


class _Observed:
    """Makes ``call`` the current one, and tells the observers when it ends, however that is."""

    __slots__ = ("_call", "_observers", "_start")

    def __init__(self, call: Call, observers: Sequence[Observer]) -> None:
        self._call, self._observers = call, observers

    def __enter__(self) -> None:
        CURRENT.set(self._call)
        for observer in self._observers:
            observer.started(self._call)
        self._start = perf_counter()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        call = self._call
        call.seconds = perf_counter() - self._start
        if error is not None:
            call.code = _code(error)
        if call.servable is not None:
            call.model = call.servable.name
        elif call.protocol == "GRPC":
            call.model = _model_name(call)
        for observer in self._observers:
            observer.ended(call)
        # Nothing may hold a servable longer than its requests, and a connection's own context may keep this call.
        call.servable, call.inputs, call.outputs = None, Call.inputs, Call.outputs
        CURRENT.set(None)


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
