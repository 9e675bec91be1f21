"""Watcher: looks at the models' folder every so often, and when it is woken, and has the library take over what is new."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.library import ModelLibrary


class Watcher(threading.Thread):
    """``seconds`` between two looks; 0: only ``wake`` makes it look."""

    def __init__(self, library: ModelLibrary, *, seconds: float) -> None:
        super().__init__(name="models", daemon=True)
        self._library, self._seconds = library, seconds
        self._woken = threading.Event()

    def wake(self) -> None:
        """Look now. May be called by a signal handler."""
        self._woken.set()

    def run(self) -> None:
        while True:
            woken = self._woken.wait(self._seconds or None)
            self._woken.clear()
            try:
                self._library.reload(patient=not woken)
            except Exception:  # the service goes on with what it has, and looks again
                traceback.print_exc(file=sys.stderr)
