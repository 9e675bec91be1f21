"""Counters and histograms, and the page that Prometheus reads (text exposition format 0.0.4).

The names with colons, their labels and buckets are TF Serving's; ``model_server_…`` are our own. Each metric has a lock
of its own: two event loops and the pool's threads write.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Labels = tuple[str, ...]
    Row = tuple[Labels, float]


def exponential(scale: float, growth: float, count: int) -> list[float]:
    """tensorflow::monitoring::Buckets::Exponential, without the last bucket, which has no limit."""
    limits = [scale]
    while len(limits) < count:
        limits.append(limits[-1] * growth)
    return limits


class CounterCell:
    __slots__ = ("_lock", "value")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        with self._lock:
            self.value += amount


class HistogramCell:
    __slots__ = ("_limits", "_lock", "counts", "sum")

    def __init__(self, lock: threading.Lock, limits: Sequence[float]) -> None:
        self._lock, self._limits = lock, limits
        self.counts = [0] * (len(limits) + 1)
        self.sum: float = 0

    def add(self, value: float) -> None:
        bucket = bisect_left(self._limits, value)
        with self._lock:
            self.counts[bucket] += 1
            self.sum += value


Cell = TypeVar("Cell", CounterCell, HistogramCell)


class _Metric(Generic[Cell]):
    """A family of cells, one for each combination of label values. ``kind`` is Prometheus's type."""

    kind: str

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._lock = threading.Lock()
        self._cells: dict[Labels, Cell] = {}

    def _new_cell(self) -> Cell:
        raise NotImplementedError

    def cell(self, *values: str) -> Cell:
        """The cell of these label values, made when they are new."""
        found = self._cells.get(values)
        return found if found is not None else self._add(values)

    def _add(self, values: Labels) -> Cell:
        with self._lock:
            return self._cells.setdefault(values, self._new_cell())

    def drop(self, unwanted: Callable[[Labels], bool]) -> None:
        """Forget the cells whose label values are unwanted."""
        with self._lock:
            self._cells = {values: cell for values, cell in self._cells.items() if not unwanted(values)}

    def _cell_lines(self, values: Labels, cell: Cell) -> list[str]:
        raise NotImplementedError

    def lines(self) -> list[str]:
        found = _head(self.name, self.help, self.kind)
        with self._lock:
            for values, cell in self._cells.items():
                found += self._cell_lines(values, cell)
        return found


class Counter(_Metric[CounterCell]):
    kind = "counter"

    def _new_cell(self) -> CounterCell:
        return CounterCell(self._lock)

    def _cell_lines(self, values: Labels, cell: CounterCell) -> list[str]:
        return [f"{self.name}{{{_pairs(self.labels, values)}}} {_number(cell.value)}"]


class Histogram(_Metric[HistogramCell]):
    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), *, limits: Sequence[float]) -> None:
        super().__init__(name, help, labels)
        self._limits = list(limits)
        self._shown = [*(f"{limit:g}" for limit in limits), "+Inf"]

    def _new_cell(self) -> HistogramCell:
        return HistogramCell(self._lock, self._limits)

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


def page(metrics: Iterable[Counter | Histogram | Reading]) -> bytes:
    lines = [line for metric in sorted(metrics, key=lambda metric: metric.name) for line in metric.lines()]
    return "\n".join([*lines, ""]).encode("utf-8", "replace")


def _head(name: str, help: str, kind: str) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]


def _pairs(names: Labels, values: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
