"""How much of a core a worker of the generator takes."""

from __future__ import annotations

import time

import gevent

WINDOW_S, SAMPLES = 1.0, 10  # saturation is judged by the second


class CpuWatch:
    """The process's CPU time from here to the last ``look``, of which ``watch`` takes ten a second."""

    def __init__(self) -> None:
        self._seen = [(time.perf_counter(), time.process_time())]

    def look(self) -> None:
        self._seen.append((time.perf_counter(), time.process_time()))

    def watch(self) -> None:
        while True:
            gevent.sleep(WINDOW_S / SAMPLES)
            self.look()

    def seconds(self) -> float:
        return self._seen[-1][1] - self._seen[0][1]

    def worst(self) -> float:
        """The largest share of one core in any second; in a shorter run, of the run."""
        step = min(SAMPLES, len(self._seen) - 1)
        pairs = zip(self._seen, self._seen[step:], strict=False)
        return max(((cpu - cpu0) / (now - then) for (then, cpu0), (now, cpu) in pairs if now > then), default=0.0)
