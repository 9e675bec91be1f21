"""Memory that an unloaded version leaves behind: given back to the system instead of kept for the next version."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def give_back() -> None:
    """Return free pages of the C library's heap (glibc's ``malloc_trim``); other C libraries do it by themselves."""
    if _TRIM is not None:
        _TRIM(0)


def _find_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None


_TRIM = _find_trim()
