"""The benchmark as text: one block for each model and number of threads, with the ratios that one run allows."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from edge.candidates import SAVED_MODEL

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    Told = Mapping[str, Any]  # of the JSON

COLUMNS = ("cold", "first", "invoke", "raw→raw", "p95", "p99", "CPU", "n", "memory", "size")
LEGEND = (
    "cold: process start to first answer; first: load and answer; then steady, one row a call: median of the invocation alone,\n"
    "median, p95, p99 and CPU time with raw units in and out, n calls; memory: the most that the cold process took"
)
NOTHING = "–"


def text(report: Told) -> str:
    """Everything that is printed after a run."""
    mark = "  (emulated)" if report["emulated"] else ""
    ways = {_way(row) for row in report["rows"] if row["runtime"] != SAVED_MODEL}
    width = max(len(part) + 2 for row in report["rows"] for part in (_head(row), f"  {_label(row, ways)}"))
    lines = [*_where(report), ""]
    for head, block in groupby(report["rows"], key=_head):
        rows = list(block)
        lines.append(f"{head:{width}}" + "".join(f"{column:>9}" for column in COLUMNS))
        for row in rows:
            label = f"  {_label(row, ways)}"
            lines.append(f"{label:{width}}{_figures(row)}{'' if row['error'] else mark}")
        lines += [f"  {ratio}{mark}" for ratio in _ratios(rows, ways)]
        asked = report["inputs"][f"{rows[0]['model']}/{rows[0]['version']}"]
        lines += [f"  rows {asked}", ""]
    lines.append(LEGEND)
    if report["emulated"]:
        lines.append(f"Every time is the emulator's ({report['emulated']}) and says nothing about a device.")
    return "\n".join(lines)


def _where(report: Told) -> list[str]:
    device, now = report["device"], report["conditions"]
    memory = NOTHING if device["memory_bytes"] is None else _size(device["memory_bytes"])
    shown = [
        ("temperature", _pair(now["temperature_c"], "{:.0f} °C")),
        ("clock", _pair(now["clock_mhz"], "{:.0f} MHz")),
        ("governor", now["governor"]),
        ("throttled", _pair(now["throttled"], "{}")),
    ]
    hidden = [name for name, value in shown if value is None]
    told = [f"{name} {value}" for name, value in shown if value is not None]
    if hidden:
        told.append(f"{', '.join(hidden)}: not shown by this system")
    model = f" ({device['model']})" if device["model"] and device["model"] != device["name"] else ""
    return [
        f"{device['name']}{model}: {device['cpu']}, {device['machine']}, {count(device['cores'], 'core')}, {memory}",
        f"{device['system']}, Python {device['python']}, "
        + ", ".join(f"{name} {version}" for name, version in report["runtimes"].items()),
        "; ".join(told),
    ]


def _head(row: Told) -> str:
    return f"{row['model']} v{row['version']}, {count(row['threads'], 'thread')}"


def _figures(row: Told) -> str:
    if row["error"] is not None:
        return f"not measured: {row['error']}"
    invoke, predict = row["invoke_us"], row["predict_us"]
    figures = (
        _time(row["cold_ms"]),
        _time(row["first_ms"]),
        _time(invoke["p50"] / 1e3),
        *(_time(predict[p] / 1e3) for p in ("p50", "p95", "p99")),
        _time(row["cpu_us"] / 1e3),
        str(predict["n"]),
        _size(row["peak_rss_bytes"]),
        _size(row["bytes"]),
    )
    return "".join(f"{figure:>9}" for figure in figures)


def _way(row: Told) -> tuple[str, str]:
    return row["runtime"], f"delegate {row['delegate']}" if row["delegate"] else ""


def _label(row: Told, ways: Collection[tuple[str, str]]) -> str:
    """The variant, and how it ran where others ran in another way."""
    if row["runtime"] == SAVED_MODEL:
        return "SavedModel, TensorFlow"
    return ", ".join(filter(None, (row["variant"], *(_way(row) if len(ways) > 1 else ()))))


def _ratios(rows: Sequence[Told], ways: Collection[tuple[str, str]]) -> list[str]:
    """Medians as multiples of the float32 file's that ran in the same way: "int8 : float32 = 0.8 : 1 invoked, …"."""
    measured = [row for row in rows if row["error"] is None]
    found = []
    for base in (row for row in measured if row["variant"] == "float32"):
        same = [row for row in measured if row["runtime"] == SAVED_MODEL or _way(row) == _way(base)]
        if len(same) > 1:
            names = " : ".join("TensorFlow" if row["runtime"] == SAVED_MODEL else row["variant"] for row in same)
            invoked, whole = (
                " : ".join(f"{row[key]['p50'] / base[key]['p50']:.3g}" for row in same)
                for key in ("invoke_us", "predict_us")
            )
            on = ", ".join(filter(None, _way(base))) + ": " if len(ways) > 1 else ""
            found.append(f"{on}{names} = {invoked} invoked, {whole} raw→raw")
    return found


def _pair(values: Any, form: str) -> str | None:
    if values is None:
        return None
    before, after = (None if value is None else form.format(value) for value in values)
    return after if before in (None, after) else f"{before} → {after}"


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return NOTHING
    if milliseconds < 1:
        return f"{milliseconds * 1e3:.3g} µs" if milliseconds < 0.1 else f"{milliseconds * 1e3:.0f} µs"
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1e3:.1f} s"


def count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _size(number: int | None) -> str:
    """Powers of 1000."""
    if number is None:
        return NOTHING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} B"
