"""Counters and histograms, and the page that Prometheus reads (text exposition format 0.0.4).

One lock for all of them: two event loops and the pool's threads write.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Labels = tuple[str, ...]
    Row = tuple[Labels, float]


def exponential(scale: float, growth: float, count: int) -> list[float]:
    """tensorflow::monitoring::Buckets::Exponential, without the last bucket, which has no limit."""
    limits = [scale]
    while len(limits) < count:
        limits.append(limits[-1] * growth)
    return limits


class CounterCell:
    """One series. ``add`` may be called by whoever holds the registry's lock, like a histogram's."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        self.value += amount


class HistogramCell:
    __slots__ = ("_limits", "counts", "sum")

    def __init__(self, limits: Sequence[float]) -> None:
        self._limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.sum: float = 0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self._limits, value)] += 1
        self.sum += value

    def add_all(self, values: NDArray) -> None:
        """A vector of values at once: some 50 ns each."""
        buckets = np.bincount(np.searchsorted(self._limits, values), minlength=len(self.counts))
        self.counts = [count + more for count, more in zip(self.counts, buckets.tolist(), strict=True)]
        self.sum += values.sum().item()


Cell = TypeVar("Cell", CounterCell, HistogramCell)


class _Metric(Generic[Cell]):
    """A family of cells, one for each combination of label values. All methods want the registry's lock."""

    kind: str  # Prometheus's type

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._cells: dict[Labels, Cell] = {}

    def _new_cell(self) -> Cell:
        raise NotImplementedError

    def cell(self, *values: str) -> Cell:
        """The cell of these label values, made when they are new."""
        found = self._cells.get(values)
        if found is None:
            found = self._cells[values] = self._new_cell()
        return found

    def drop(self, unwanted: Callable[[Labels], bool]) -> None:
        """Forget the cells whose label values are unwanted."""
        self._cells = {values: cell for values, cell in self._cells.items() if not unwanted(values)}

    def _cell_lines(self, values: Labels, cell: Cell) -> list[str]:
        raise NotImplementedError

    def lines(self) -> list[str]:
        rows: list[str] = [line for values, cell in self._cells.items() for line in self._cell_lines(values, cell)]
        return [*_head(self.name, self.help, self.kind), *rows]


class Counter(_Metric[CounterCell]):
    kind = "counter"

    def _new_cell(self) -> CounterCell:
        return CounterCell()

    def _cell_lines(self, values: Labels, cell: CounterCell) -> list[str]:
        return [f"{self.name}{{{_pairs(self.labels, values)}}} {_number(cell.value)}"]


class Histogram(_Metric[HistogramCell]):
    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), *, limits: Sequence[float]) -> None:
        super().__init__(name, help, labels)
        self._limits = list(limits)
        self._shown = [*(f"{limit:g}" for limit in limits), "+Inf"]

    def _new_cell(self) -> HistogramCell:
        return HistogramCell(self._limits)

    def _cell_lines(self, values: Labels, cell: HistogramCell) -> list[str]:
        pairs = _pairs(self.labels, values)
        before, total, found = f"{pairs}," if pairs else "", 0, []
        for limit, count in zip(self._shown, cell.counts, strict=True):
            total += count
            found.append(f'{self.name}_bucket{{{before}le="{limit}"}} {total}')
        return [*found, f"{self.name}_sum{{{pairs}}} {_number(cell.sum)}", f"{self.name}_count{{{pairs}}} {total}"]


class Reading:
    """A metric that costs nothing until the page is asked for: ``read`` gives its label values and numbers then."""

    def __init__(
        self, name: str, help: str, labels: Sequence[str], read: Callable[[], Iterable[Row]], *, kind: str = "gauge"
    ) -> None:
        self.name, self._help, self._labels, self._read, self._kind = name, help, tuple(labels), read, kind

    def lines(self) -> list[str]:
        rows = [f"{self.name}{{{_pairs(self._labels, values)}}} {_number(number)}" for values, number in self._read()]
        return [*_head(self.name, self._help, self._kind), *rows]


class Registry:
    """Every metric, and the lock to hold while cells are taken or written."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._metrics: list[Counter | Histogram | Reading] = []

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        self._metrics.append(metric := Counter(name, help, labels))
        return metric

    def histogram(self, name: str, help: str, labels: Sequence[str] = (), *, limits: Sequence[float]) -> Histogram:
        self._metrics.append(metric := Histogram(name, help, labels, limits=limits))
        return metric

    def reading(
        self, name: str, help: str, labels: Sequence[str], read: Callable[[], Iterable[Row]], *, kind: str = "gauge"
    ) -> None:
        self._metrics.append(Reading(name, help, labels, read, kind=kind))

    def page(self) -> bytes:
        lines = []
        for metric in sorted(self._metrics, key=lambda metric: metric.name):
            with self.lock:  # one after the other, so that no request waits for the whole page
                lines += metric.lines()
        return "\n".join([*lines, ""]).encode("utf-8", "replace")


def _head(name: str, help: str, kind: str) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]


def _pairs(names: Labels, values: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
