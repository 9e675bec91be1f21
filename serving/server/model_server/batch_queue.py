"""Requests that wait for a batch. Limits and error texts are TF Serving's (shared_batch_scheduler.h of TensorFlow)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from model_server.batch_tensors import joined
from model_server.engines import Stop
from model_server.errors import Code, ServingError, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model_server.batching_parameters import Parameters
    from model_server.servable import Servable
    from model_server.signatures import Signature

    Answer = dict[str, NDArray] | ServingError


class Request:
    """One request. ``future`` belongs to the event loop that scheduled it."""

    def __init__(self, servable: Servable, signature: Signature, inputs: Mapping[str, NDArray], rows: int) -> None:
        self.servable, self.signature, self.inputs, self.rows = servable, signature, inputs, rows
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[dict[str, NDArray]] = self.loop.create_future()
        self.came = time.monotonic()
        self.queue_seconds = self.compute_seconds = 0.0
        self.gone = False
        self.parts: list[Part] = []  # one, unless it is split
        self.unfinished = 0

    def cancel(self) -> None:
        """Nobody waits any more: batches of such requests alone do not run, or are stopped."""
        self.gone = True
        for part in self.parts:
            part.batch.stop_if_all_are_gone()

    def whole(self) -> Answer:
        """The answer, once all parts have one."""
        answers = [part.answer for part in self.parts]
        for answer in answers:
            if isinstance(answer, ServingError):
                return answer
        return answers[0] if len(answers) == 1 else joined(answers)  # type: ignore[return-value,arg-type]


class Part:
    """A request's rows in one batch."""

    __slots__ = ("answer", "batch", "inputs", "request", "rows")

    def __init__(self, request: Request, inputs: Mapping[str, NDArray], rows: int, batch: Batch) -> None:
        self.request, self.inputs, self.rows, self.batch = request, inputs, rows, batch
        self.answer: Answer = {}


class Batch:
    __slots__ = ("parts", "rows", "started", "stop")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.rows = 0
        self.started = inf  # when its first request came
        self.stop: Stop | None = None  # once it runs

    def stop_if_all_are_gone(self) -> None:
        if self.stop is not None and all(part.request.gone for part in self.parts):
            self.stop.stop()

    def begin(self) -> list[Part]:
        """The parts that are still waited for."""
        self.stop = Stop()  # first: who goes from now on finds it
        return [part for part in self.parts if not part.request.gone]

    def end(self) -> None:
        """Forget the requests, which hold it and their servable."""
        for part in self.parts:
            if part.request.gone:
                part.request.parts = []
        self.parts = []


class Queue:
    """The batches of one signature of one version that wait. Used with the batcher's lock."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.batches = deque([Batch()])

    def add(self, request: Request) -> None:
        """Raises ServingError: INVALID_ARGUMENT, UNAVAILABLE when it is full."""
        limits, rows = self.parameters, request.rows
        if rows > limits.input_limit:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {limits.input_limit}")
        room = limits.batch_limit - self.batches[-1].rows
        if limits.splits:
            self._check_capacity(rows, room)
            done = 0
            while done < rows or not request.parts:
                size = min(rows - done, room or limits.batch_limit)
                part = {name: array[done : done + size] for name, array in request.inputs.items()}
                self._append(request, part, size)
                done += size
                room = limits.batch_limit - self.batches[-1].rows
        else:
            if rows > room and len(self.batches) >= limits.max_enqueued_batches:
                raise _full(
                    f"currently {len(self.batches)} batches enqueued and max_enqueued_batches is "
                    f"{limits.max_enqueued_batches}"
                )
            self._append(request, request.inputs, rows)
        request.unfinished = len(request.parts)

    def _check_capacity(self, rows: int, room: int) -> None:
        limits = self.parameters
        capacity = (limits.max_enqueued_batches - len(self.batches)) * limits.batch_limit + room
        if rows > capacity:
            raise _full(
                f"task size is {rows} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={len(self.batches)}, max_enqueued_batches={limits.max_enqueued_batches}, "
                f"open_batch_size={self.batches[-1].rows}, max_execution_batch_size={limits.batch_limit})"
            )

    def _append(self, request: Request, inputs: Mapping[str, NDArray], rows: int) -> None:
        batch = self.batches[-1]
        if batch.rows + rows > self.parameters.batch_limit:
            batch = Batch()
            self.batches.append(batch)
        if not batch.parts:
            batch.started = request.came
        part = Part(request, inputs, rows, batch)
        batch.parts.append(part)
        batch.rows += rows
        request.parts.append(part)

    @property
    def is_empty(self) -> bool:
        return len(self.batches) == 1 and not self.batches[0].parts

    def due(self) -> float:
        """When the next batch may run (time.monotonic): 0.0 at once, infinite when there is none."""
        first = self.batches[0]
        if len(self.batches) > 1 or first.rows >= self.parameters.batch_limit:
            return 0.0
        return first.started + self.parameters.timeout

    def take(self) -> Batch:
        batch = self.batches.popleft()
        if not self.batches:
            self.batches.append(Batch())
        return batch


def _full(reason: str) -> ServingError:
    return ServingError(
        Code.UNAVAILABLE, f"The batch scheduling queue to which this task was submitted is full; {reason}"
    )
