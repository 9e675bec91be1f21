"""Closed and open loops: how requests follow each other.

A closed loop sends the next request when an answer comes, so it finds the saturation rate and hides waiting. An open
loop sends at fixed moments, whatever the server does, and counts the latency from the moment at which a request was
due: what a slow server keeps waiting is in the figures (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loadtest.connections import Connections
    from loadtest.questions import Question

# An answer that takes longer counts as lost, seconds.
PATIENCE = 30.0


@dataclass
class Load:
    """What one run of a loop saw. ``latencies`` in seconds, of the good answers only."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    late: float = 0.0  # the generator's own worst delay: a figure near the latencies makes them doubtful

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.latencies, q)) if self.latencies else float("nan")


class _Run:
    def __init__(self, connections: Connections, questions: Sequence[Question]) -> None:
        self.load = Load()
        self.in_flight = 0
        self._connections = connections
        self._next = itertools.cycle(questions).__next__

    def ask(self, since: float, then: Callable[[], None] | None = None, *, counted: bool = True) -> None:
        """Send the next question; its latency counts from ``since`` (time.perf_counter())."""
        question = self._next()
        self.in_flight += 1

        def done(error: str | None, body: bytes) -> None:
            self.in_flight -= 1
            error = error or question.wrong(body)
            if error is None and not counted:
                pass
            elif error is None:
                self.load.latencies.append(time.perf_counter() - since)
            else:
                self.load.errors.append(error)
            if then is not None:
                then()

        self._connections.send(question.request, done)

    async def finish(self) -> None:
        deadline = time.perf_counter() + PATIENCE
        while self.in_flight and time.perf_counter() < deadline:
            await asyncio.sleep(0.001)
        self.load.errors += ["no answer"] * self.in_flight


async def closed_loop(
    connections: Connections, questions: Sequence[Question], *, concurrency: int, seconds: float
) -> Load:
    """``concurrency`` requests in flight for ``seconds``."""
    run = _Run(connections, questions)
    start = time.perf_counter()
    end = start + seconds

    def again() -> None:
        if (now := time.perf_counter()) < end and len(run.load.errors) < concurrency:
            run.ask(now, again)

    for _ in range(concurrency):
        again()
    while run.in_flight and time.perf_counter() < end:
        await asyncio.sleep(0.05)
    await run.finish()
    run.load.seconds = time.perf_counter() - start
    return run.load


async def open_loop(
    connections: Connections, questions: Sequence[Question], *, rate: float, seconds: float, ramp: float = 0.0
) -> Load:
    """``rate`` requests per second at even distances for ``ramp`` and then ``seconds``, of which only these are counted.

    The loop spins: timers are too coarse (1 ms).
    """
    run = _Run(connections, questions)
    gc.collect()
    gc.disable()  # a collection in the client would count as the server's
    try:
        start = time.perf_counter()
        skipped, count = int(rate * ramp), int(rate * (ramp + seconds))
        sent = 0
        while sent < count:
            now = time.perf_counter()
            while sent < count and (due := start + sent / rate) <= now:
                if sent >= skipped:
                    run.load.late = max(run.load.late, now - due)
                run.ask(due, counted=sent >= skipped)
                sent += 1
            await asyncio.sleep(0)
        await run.finish()
    finally:
        gc.enable()
    run.load.seconds = time.perf_counter() - start
    return run.load
