"""Waiting until a moment, in a gevent process, to some 0.1 ms.

gevent's own timers are those of libev: whole milliseconds, 0.7 ms late at the median. Linux' timerfd wakes the same loop
within 0.1 ms and costs no spinning. Elsewhere gevent's timers must do.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

import gevent

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_READ = 1


class _Timerspec(ctypes.Structure):
    """struct itimerspec of timerfd_settime(2): an interval, which stays 0, and the moment."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "seconds", "nanoseconds")]


class Timer:
    """For one greenlet. Moments are those of time.perf_counter(), which on Linux is CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self._descriptor = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._descriptor = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor >= 0:
            self._spec = _Timerspec()
            self._readable = gevent.get_hub().loop.io(self._descriptor, _READ)

    def wait_until(self, moment: float) -> None:
        if self._descriptor < 0:
            gevent.sleep(max(0.0, moment - time.perf_counter()))
            return
        seconds = int(moment)
        self._spec.seconds, self._spec.nanoseconds = seconds, int((moment - seconds) * 1e9)
        self._libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(self._spec), None)
        gevent.get_hub().wait(self._readable)

    def close(self) -> None:
        if self._descriptor >= 0:
            self._readable.stop()
            self._readable.close()
            os.close(self._descriptor)
