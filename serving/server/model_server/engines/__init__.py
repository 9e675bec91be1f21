"""What runs a model. An engine is one file here; the rest of the server knows only this contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


class Engine(Protocol):
    """One loaded version. ``run`` is called from several threads at once."""

    name: str
    quick: bool  # may run on the event loop when its calls have proved short

    def answers(self, signature: str) -> bool:
        """Whether this engine can run that signature."""

    def run(
        self, signature: str, inputs: Mapping[str, NDArray], outputs: Sequence[str], timeout: float | None = None
    ) -> dict[str, NDArray]:
        """Run one request. ``timeout`` is in seconds. Raises ServingError."""

    def close(self) -> None:
        """Free what it holds. Nothing runs on it any more."""
