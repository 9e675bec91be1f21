"""First answer and steady time of several candidates, in turn within one run, so that a busy second hurts all alike."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.cold import Crashed, cold_start
from edge.errors import EdgeError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edge.candidates import Answering, Candidate, Tensors

ROUNDS = 5
WARM_UP_CALLS = 5
CALLS = (2, 20_000)  # least and most of one block


@dataclass
class Row:
    """One candidate: filled as far as it answers, ``error`` says why no further."""

    candidate: Candidate
    sha256: str | None = None  # of a file that is whole
    error: str | None = None
    refused: bool = False  # the file is whole, but the runtime says that it cannot run it
    cold_ms: float | None = None
    first_ms: float | None = None
    peak_rss_bytes: int | None = None
    answering: Answering | None = None
    invoke_seconds: list[NDArray] = field(default_factory=list)
    predict_seconds: list[NDArray] = field(default_factory=list)
    cpu_seconds: float = 0.0  # of all predict calls, every thread of the process

    def to_json(self) -> dict[str, Any]:
        calls = sum(len(block) for block in self.predict_seconds)
        return {
            "model": self.candidate.model,
            "version": self.candidate.version,
            "variant": self.candidate.variant,
            "runtime": self.candidate.runtime,
            "delegate": self.candidate.delegate,
            "threads": self.candidate.threads,
            "sha256": self.sha256,
            "bytes": self.candidate.bytes if self.error is None else None,
            "cold_ms": self.cold_ms,
            "first_ms": self.first_ms,
            "invoke_us": _percentiles(self.invoke_seconds),
            "predict_us": _percentiles(self.predict_seconds),
            "cpu_us": self.cpu_seconds / calls * 1e6 if calls else None,
            "peak_rss_bytes": self.peak_rss_bytes,
            "error": self.error,
            "refused": self.refused,
        }


def _percentiles(blocks: Sequence[NDArray]) -> dict[str, float] | None:
    if not blocks:
        return None
    seconds = np.concatenate(blocks)
    p50, p95, p99 = (float(v) for v in np.percentile(seconds * 1e6, (50, 95, 99)))
    return {"p50": p50, "p95": p95, "p99": p99, "n": len(seconds)}


class Measurement:
    """One run over many models. ``seconds`` is the steady time of each row; ``cold``: start processes of their own too."""

    def __init__(self, *, seconds: float, cold: bool, tell: Callable[[str], None]) -> None:
        self._seconds, self._cold, self._tell = seconds, cold, tell
        self._loaded: set[str] = set()  # runtimes that this process has already imported and used

    def run(self, rows: Sequence[Row], inputs: Tensors, *, size: int) -> None:
        """Fill the rows, all of one model; ``size`` rows a call. What was opened stays open in ``row.answering``."""
        asked = [_slice(inputs, turn, size) for turn in range(ROUNDS)]  # each round asks other rows
        for row in rows:
            self._attempt(row, self._start, asked[0])
        calls = {id(row): found for row in rows if (found := self._attempt(row, self._warm_up, asked[0]))}
        for turn in range(ROUNDS):
            self._tell(".")
            for row in rows:
                self._attempt(row, self._block, asked[turn], calls.get(id(row)))

    def _start(self, row: Row, one: Tensors) -> None:
        row.sha256 = row.candidate.sha256()
        if self._cold:
            row.cold_ms, row.peak_rss_bytes = cold_start(row.candidate, one)
        if row.candidate.runtime not in self._loaded:
            row.candidate.open().predict(one)
            self._loaded.add(row.candidate.runtime)
        start = time.perf_counter()
        row.answering = row.candidate.open()
        row.answering.predict(one)
        row.first_ms = (time.perf_counter() - start) * 1e3

    def _warm_up(self, row: Row, one: Tensors) -> tuple[int, int]:
        """How many calls of ``invoke`` and of ``predict`` make a block; each has half of the row's time."""
        answering = row.answering
        assert answering is not None
        prepared = answering.prepare(one)
        blocks = (
            _timed(lambda: answering.invoke(prepared), WARM_UP_CALLS),
            _timed(lambda: answering.predict(one), WARM_UP_CALLS),
        )
        invokes, predicts = (
            int(np.clip(self._seconds / 2 / ROUNDS / max(np.median(block), 1e-7), *CALLS)) for block in blocks
        )
        return invokes, predicts

    def _block(self, row: Row, one: Tensors, calls: tuple[int, int]) -> None:
        answering = row.answering
        assert answering is not None
        prepared = answering.prepare(one)
        answering.invoke(prepared)  # another candidate had the caches
        row.invoke_seconds.append(_timed(lambda: answering.invoke(prepared), calls[0]))
        before = time.process_time()
        row.predict_seconds.append(_timed(lambda: answering.predict(one), calls[1]))
        row.cpu_seconds += time.process_time() - before

    @staticmethod
    def _attempt(row: Row, step: Callable[..., Any], *arguments: Any) -> Any:
        """A candidate that fails costs its own row; the others go on."""
        if row.error is not None:
            return None
        try:
            return step(row, *arguments)
        except EdgeError as error:
            row.error, row.answering = str(error), None
            row.refused = row.sha256 is not None and not isinstance(error, (Crashed, RequestError))
            return None


def _slice(inputs: Tensors, turn: int, size: int) -> Tensors:
    count = len(next(iter(inputs.values()), ()))
    start = (turn * size) % max(1, count - size + 1)
    return {name: rows[start : start + size] for name, rows in inputs.items()}


def _timed(call: Callable[[], object], calls: int) -> NDArray:
    """Seconds of each of ``calls`` calls, one after the other, float64."""
    seconds = np.empty(calls)
    clock = time.perf_counter
    for i in range(calls):
        start = clock()
        call()
        seconds[i] = clock() - start
    return seconds
