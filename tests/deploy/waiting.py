"""Waiting for what other processes do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 120  # on a busy machine; nothing that is waited for takes ten seconds on an idle one


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """What ``condition`` gives as soon as it is true. Fails the test with ``what`` when it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.1)
    return found
