"""Batching: requests of one signature that come about the same time run as one, each gets its rows of the answer.

As TF Serving does it (tensorflow_serving/batching/batching_session.cc, and shared_batch_scheduler.h of TensorFlow): each
signature of a version has a queue of batches, of which the last is open; some threads serve all queues in turn. A batch
runs when a thread is free and it is full, or its first request has waited for batch_timeout_micros. Error texts are theirs.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Protocol

from model_server.batch_queue import Request
from model_server.batch_tensors import merged, padding, rows_in, split
from model_server.errors import Code, ServingError
from model_server.servable import check_dtypes
from model_server.signatures import check_shape

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from model_server.batch_queue import Answer, Batch, Part, Queue
    from model_server.servable import Servable
    from model_server.signatures import Signature


class BatchObserver(Protocol):
    """``request_came`` is called on an event loop, the others on the threads that run batches."""

    def request_came(self, rows: int, inputs: int) -> None: ...

    def batch_began(self, queued: Sequence[float], rows: int, added: int) -> None:
        """Seconds that its requests waited; rows that run, and how many of them are padding."""

    def batch_ran(self, seconds: float) -> None: ...


class Batcher:
    """The threads that serve the queues of all servables."""

    def __init__(self, threads: int, observer: BatchObserver | None = None) -> None:
        self._observer = observer
        self._changed = threading.Condition()
        self._waiting: deque[Queue] = deque()  # queues that are not empty, the one that was served last at the end
        for number in range(threads):
            threading.Thread(target=self._serve, name=f"batch-{number}", daemon=True).start()

    def takes(self, servable: Servable, signature: Signature, outputs: Sequence[str]) -> bool:
        """TF Serving batches requests for all outputs of a signature; an output_filter runs by itself.

        So does, other than there, a signature for a fixed number of rows: a batch would have another one.
        """
        return signature.name in servable.queues and (
            outputs is signature.outputs or set(outputs) == set(signature.outputs)
        )

    def schedule(self, servable: Servable, signature: Signature, inputs: Mapping[str, NDArray]) -> Request:
        """Put a request into its queue, from an event loop. Raises ServingError."""
        check_dtypes(signature, inputs)
        rows = rows_in(inputs)
        for name, array in inputs.items():  # here it fails this request alone
            check_shape(name, array.shape, signature.shapes[name])
        request = Request(servable, signature, inputs, rows)
        if self._observer is not None:
            self._observer.request_came(rows, len(inputs))
        queue = servable.queues[signature.name]
        with self._changed:
            was_empty, was_due = queue.is_empty, queue.due()
            queue.add(request)
            if was_empty:
                self._waiting.append(queue)
            if was_empty or (was_due and not queue.due()):
                self._changed.notify()
        return request

    # ------------------------------------------------------------ on the threads

    def _serve(self) -> None:
        while True:
            batch = self._next()
            try:
                self._run(batch)
            except Exception as error:  # the thread must outlive it, and nobody may wait for ever
                traceback.print_exc(file=sys.stderr)
                self._answer(batch.parts, [ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")])
            batch.end()
            del batch  # it holds its servable, which may be unloaded while this waits

    def _next(self) -> Batch:
        with self._changed:
            while True:
                now, soonest = time.monotonic(), inf
                for _ in range(len(self._waiting)):
                    queue = self._waiting.popleft()
                    due = queue.due()
                    if due <= now:
                        batch = queue.take()
                        if not queue.is_empty:
                            self._waiting.append(queue)
                            self._changed.notify()  # there is more to do, or another time to wait for
                        return batch
                    self._waiting.append(queue)
                    soonest = min(soonest, due)
                self._changed.wait(None if soonest == inf else soonest - now)

    def _run(self, batch: Batch) -> None:
        parts = batch.begin()
        if not parts:
            return
        request, began = parts[0].request, time.monotonic()
        parameters = request.servable.queues[request.signature.name].parameters
        sizes = [part.rows for part in parts]
        rows = sum(sizes)
        added = padding(rows, parameters.allowed)
        for part in parts:
            part.request.queue_seconds = began - part.request.came
        if self._observer is not None:
            self._observer.batch_began([part.request.queue_seconds for part in parts], rows + added, added)
        tensors = request.signature.proto.inputs
        answers: Sequence[Answer]
        try:
            inputs = merged(
                [part.inputs for part in parts], added, pads=parameters.pads, tensor=lambda name: tensors[name].name
            )
            answer = request.servable.run(request.signature, inputs, request.signature.outputs, batch.stop)
            answers = split(answer, sizes, added)
        except ServingError as error:
            answers = [ServingError(error.code, error.message)]  # without the traceback, which holds this frame
        seconds = time.monotonic() - began
        if self._observer is not None:
            self._observer.batch_ran(seconds)
        for part in parts:
            part.request.compute_seconds += seconds
        self._answer(parts, answers)

    def _answer(self, parts: Sequence[Part], answers: Sequence[Answer]) -> None:
        """One answer for each part, or one for all; each event loop is woken once."""
        done: dict[asyncio.AbstractEventLoop, list[Request]] = {}
        with self._changed:
            for number, part in enumerate(parts):
                part.answer = answers[number] if len(answers) > 1 else answers[0]
                part.request.unfinished -= 1
                if not part.request.unfinished:
                    done.setdefault(part.request.loop, []).append(part.request)
        for loop, requests in done.items():
            loop.call_soon_threadsafe(_deliver, requests)


def _deliver(requests: Sequence[Request]) -> None:
    for request in requests:
        if request.future.done():
            continue
        answer = request.whole()
        request.parts = []
        if isinstance(answer, ServingError):  # one object for each: they are raised at the same time
            request.future.set_exception(ServingError(answer.code, answer.message))
        else:
            request.future.set_result(answer)
