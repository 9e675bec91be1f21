"""What both protocols share: one ``predict``, and where it runs."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from model_server.engines import Stop
from model_server.errors import Code, ServingError
from model_server.servable import rows_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from model_server.batching import Batcher
    from model_server.flags import Options
    from model_server.manager import Manager
    from model_server.servable import Servable
    from model_server.signatures import Signature

# Requests that may wait for a thread. TF Serving refuses those that find no thread; here they wait for their turn or
# their deadline, up to a number that shows that the server will not catch up.
MAX_WAITING = 4096

Result = TypeVar("Result")


class Core:
    def __init__(self, manager: Manager, options: Options, batcher: Batcher | None = None) -> None:
        """``batcher`` is there with --enable_batching."""
        self.manager = manager
        self.options = options
        self.draining = False
        self._batcher = batcher
        threads = options.grpc_max_threads
        if options.rest_api_port:
            threads = max(threads, options.rest_api_num_threads)
        self._pool = self._new_pool(threads)

    def _new_pool(self, threads: int) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(threads, thread_name_prefix="predict")

    async def predict(
        self,
        servable: Servable,
        signature: Signature,
        inputs: Mapping[str, NDArray],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> dict[str, NDArray]:
        """Run on this thread where that is quick, else in a batch or on the pool. ``timeout`` in seconds.

        When the caller's task is cancelled, or the time is over, the work is given up: it does not begin, and what runs
        is stopped where its engine can. Raises ServingError.
        """
        if self._batcher is not None and self._batcher.takes(servable, signature, outputs):
            await asyncio.sleep(0)  # REST runs requests without a task until here (http1.py)
            request = self._batcher.schedule(servable, signature, inputs)
            answer = await _in_time(request.future, timeout, request.cancel)
            self._was_batched(request.queue_seconds, request.compute_seconds)
            return {name: answer[name] for name in outputs}
        if servable.is_quick(signature.name, rows_of(inputs)):
            return servable.run(signature, inputs, outputs)
        await asyncio.sleep(0)
        if self._pool._work_queue.qsize() >= MAX_WAITING:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, f"{MAX_WAITING} requests wait for a thread; send less, or set deadlines"
            )
        stop = Stop()
        call = asyncio.get_running_loop().run_in_executor(self._pool, servable.run, signature, inputs, outputs, stop)
        return await _in_time(call, timeout, stop.stop)

    def _was_batched(self, queue_seconds: float, compute_seconds: float) -> None:
        """For who measures."""


async def _in_time(call: Awaitable[Result], timeout: float | None, give_up: Callable[[], None]) -> Result:
    try:
        return await asyncio.wait_for(call, timeout)
    except TimeoutError:
        give_up()
        raise ServingError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
    except asyncio.CancelledError:
        give_up()
        raise
