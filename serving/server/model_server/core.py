"""What both protocols share: one ``predict``, and where it runs."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from model_server.errors import Code, ServingError
from model_server.servable import rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from model_server.flags import Options
    from model_server.manager import Manager
    from model_server.servable import Servable
    from model_server.signatures import Signature


class Core:
    def __init__(self, manager: Manager, options: Options) -> None:
        self.manager = manager
        self.options = options
        self.draining = False
        # TF Serving's default: four threads per core.
        self._pool = self._new_pool(4 * (os.cpu_count() or 1))

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
        """Run on this thread where that is quick, else on the pool. ``timeout`` in seconds. Raises ServingError."""
        if servable.is_quick(signature.name, rows_of(inputs)):
            return servable.run(signature, inputs, outputs)
        await asyncio.sleep(0)  # REST runs requests without a task until here (http1.py)
        call = asyncio.get_running_loop().run_in_executor(self._pool, servable.run, signature, inputs, outputs, timeout)
        try:
            return await asyncio.wait_for(call, timeout)
        except TimeoutError:
            raise ServingError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
