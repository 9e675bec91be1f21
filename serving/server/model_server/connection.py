"""What REST and gRPC share below their protocols: a whole request body, and clients that go away."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, NamedTuple

from model_server.errors import Code, ServingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]

# After a body of so many bytes the memory that its values took is given back; Python's floats take four times as much.
LARGE_BODY = 8 << 20
# Envoy's receive() does not wait for a disconnect; it has to be asked again and again while a request is worked on.
LOOK_EVERY_SECONDS = 0.05


class Limits(NamedTuple):
    """``size`` in bytes, of a body and of what a compressed one unpacks to; ``idle`` in seconds between two pieces."""

    size: int
    idle: float


async def read_body(receive: Receive, limits: Limits, timeout: float | None = None) -> bytes | None:
    """The whole body, or None when the client is gone. ``timeout`` in seconds, from now on.

    Raises ServingError: RESOURCE_EXHAUSTED when it is too large, DEADLINE_EXCEEDED when it stops coming.
    """
    event = await receive()
    if not event.get("more_body"):
        if event["type"] != "http.request":
            return None
        if len(event["body"]) > limits.size:
            raise too_large(limits.size)
        return event["body"]
    body = bytearray(event["body"])  # not a list of pieces, whose smallest take fifty times their size
    now = asyncio.get_running_loop().time
    end = now() + timeout if timeout is not None else float("inf")
    try:
        async with asyncio.timeout(limits.idle) as limit:
            while event.get("more_body"):
                limit.reschedule(min(now() + limits.idle, end))
                event = await receive()
                body += event.get("body", b"")
                if len(body) > limits.size:
                    raise too_large(limits.size)
    except TimeoutError:
        # Not the clock: a timer may come a moment before its time.
        expired = limit.when() == end
        late = "Deadline Exceeded" if expired else f"nothing came for {limits.idle:g} s in the middle of a request"
        raise ServingError(Code.DEADLINE_EXCEEDED, late) from None
    return bytes(body) if event["type"] == "http.request" else None


def tidy_after(size: int) -> None:
    """Give the memory of a request of ``size`` bytes back to the system, a second later: when its answer is on its way."""
    if size >= LARGE_BODY:
        asyncio.get_running_loop().call_later(1.0, _tidy)


def _tidy() -> None:
    gc.collect()  # a refused request's values hang on the frames of its error


def too_large(limit: int) -> ServingError:
    return ServingError(
        Code.RESOURCE_EXHAUSTED,
        f"the request is larger than {limit} bytes; send less at once, or start the server with a larger "
        "--max_request_bytes",
    )


class Leaving:
    """Cancels the current task when its client goes away: ``gone`` is then True.

    It looks only once the task waits for something: a request that is answered on the event loop itself never does.
    """

    __slots__ = ("_handle", "_look", "_receive", "_task", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task = asyncio.current_task()
        self._look: asyncio.Task | None = None
        self.gone = False
        self._handle = asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._look = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        # Shielded: pyvoy sets the future that it gave out even after a cancellation, and asyncio would report that.
        while (await asyncio.shield(self._receive()))["type"] != "http.disconnect":
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        self.gone = True
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        self._handle.cancel()
        if self._look is not None:
            self._look.cancel()
