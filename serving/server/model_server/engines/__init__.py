"""What runs a model. An engine is one file here; the rest of the server knows only this contract."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from model_server.errors import Code, ServingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


class Engine(Protocol):
    """One loaded version. ``run`` is called from several threads at once."""

    name: str
    quick: bool  # may run on the event loop when its calls have proved short

    def answers(self, signature: str) -> bool:
        """Whether this engine can run that signature."""

    def run(
        self, signature: str, inputs: Mapping[str, NDArray], outputs: Sequence[str], stop: Stop | None = None
    ) -> dict[str, NDArray]:
        """Run one request. Raises ServingError, CANCELLED where ``stop`` ended it; an engine may be too quick for that."""

    def close(self) -> None:
        """Free what it holds. Nothing runs on it any more."""


class Stop:
    """Nobody waits for a call any more: its client left, or its deadline passed. Thread-safe."""

    __slots__ = ("_interrupt", "_lock", "stopped")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupt: Callable[[], object] | None = None
        self.stopped = False

    def stop(self) -> None:
        """Ends the call that runs, or keeps it from beginning."""
        with self._lock:
            self.stopped = True
            if self._interrupt is not None:
                self._interrupt()

    def check(self) -> None:
        """Raises ServingError CANCELLED once it is stopped."""
        if self.stopped:
            raise ServingError(Code.CANCELLED, "nobody waits for this answer any more")

    def bind(self, interrupt: Callable[[], object] | None) -> None:
        """How the call that runs now is ended; None: nothing runs. After None returns, no interrupt runs either.

        Raises ServingError CANCELLED where it is too late for a call to begin.
        """
        with self._lock:
            if interrupt is not None:
                self.check()
            self._interrupt = interrupt
