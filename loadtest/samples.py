"""What one worker saw, kept as raw numbers while it runs and told as histograms afterwards."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadtest.histogram import encoded, histogram

LONG_RUN_S = 60.0  # the timeline of a longer one has bins of 1 s
NOTHING = float("nan")  # the latency of a request that failed


def bin_seconds(duration: float) -> float:
    return 1.0 if duration > LONG_RUN_S else 0.25


@dataclass
class Samples:
    """Seconds; ``due`` counts from the schedule's start. An append costs 0.1 µs, a histogram's entry 2 µs."""

    due: array = field(default_factory=lambda: array("d"))
    latency: array = field(default_factory=lambda: array("d"))
    service: array = field(default_factory=lambda: array("d"))
    lateness: array = field(default_factory=lambda: array("d"))
    errors: Counter = field(default_factory=Counter)
    checked: int = 0
    wrong: int = 0

    def add(self, due: float, *, latency: float, service: float, lateness: float, error: str | None) -> None:
        self.due.append(due)
        self.lateness.append(lateness)
        if error is None:
            self.latency.append(latency)
            self.service.append(service)
        else:
            self.latency.append(NOTHING)
            self.service.append(NOTHING)
            self.errors[error] += 1

    def part(self, duration: float, *, late_s: float, keep: bool) -> dict[str, Any]:
        """For Locust's master: histograms as text, counts, the bins of the timeline."""
        latency, lateness = np.frombuffer(self.latency), np.frombuffer(self.lateness)
        good = np.isfinite(latency)
        return {
            "latency": encoded(histogram(latency[good])),
            "service": encoded(histogram(np.frombuffer(self.service)[good])),
            "sent": len(latency),
            "answered": int(good.sum()),
            "checked": self.checked,
            "wrong": self.wrong,
            "late": int((lateness > late_s).sum()),
            "late_max_ms": float(lateness.max() * 1e3) if lateness.size else 0.0,
            "errors": dict(self.errors),
            "bins": self._bins(duration, latency, good),
            "samples": latency[good].tolist() if keep else None,
        }

    def _bins(self, duration: float, latency: Any, good: Any) -> list[list[Any]]:
        """[number, sent, answered, histogram of the answered] of each bin in which a request was due."""
        numbers = (np.frombuffer(self.due) / bin_seconds(duration)).astype(int)
        bins = []
        for number in np.unique(numbers):
            here = numbers == number
            answered = latency[here & good]
            bins.append([int(number), int(here.sum()), len(answered), encoded(histogram(answered))])
        return bins
