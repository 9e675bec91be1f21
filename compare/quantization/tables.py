"""The report on the terminal, 100 columns, and as Markdown for a README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compare import units
from compare.quantization.recommend import invoke_us
from compare.report import SIGNS
from compare.terminal import COLOURS, plain_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

OUTPUT = "StatefulPartitionedCall"  # how the converter calls a signature's outputs
LOST = 3  # operators of a ranking that the terminal shows


def show(screen: Console, document: dict[str, Any], page: object) -> None:
    """Print everything: a table per model, what to take, the bars, where it was measured, where the report is."""
    for model in document["models"]:
        screen.print(_table(model))
        _beside(screen, model)
    own = [model for model in document["models"] if not model["stand_in"]]
    if own:
        screen.print(_recommendations(own))
        for found in own[0]["recommended"]:
            screen.print(f"{found['purpose']}: {found['rule']}", markup=False, soft_wrap=True)
    screen.print(_bars(document["bars"]))
    screen.print(f"\n{measured_on(document)}", soft_wrap=True)
    if document["quick"]:
        screen.print("measured with --quick: the times show that it runs, not how fast")
    screen.print(f"report: {page}", soft_wrap=True)


def measured_on(document: dict[str, Any]) -> str:
    host, versions = document["host"], document["versions"]
    packages = ", ".join(f"{n} {versions[n]}" for n in ("ai-edge-litert", "tensorflow", "python") if n in versions)
    simd = f" ({', '.join(host['simd'])})" if host["simd"] else ""
    return f"{host['cpu']}{simd}, {host['cores']} cores, {host['system']}; {packages}"


def kind(row: dict[str, Any]) -> str:
    """ "integer", "float", or how many operators of an otherwise quantized file are left in float."""
    if row["full_integer"]:
        return "integer"
    integers = sum(row["ops"].values()) - sum(row["float_islands"].values())
    return (
        "float" if integers <= 0 or row["judged_by"] == "tolerance" else f"{sum(row['float_islands'].values())} float"
    )


def metric_of(row: dict[str, Any]) -> float | None:
    return row["quality"]["metric"]["value"] if row["quality"] and row["quality"]["metric"] else None


def clear_agreement(row: dict[str, Any]) -> float | None:
    found = row["quality"]["agreement"] if row["quality"] else None
    return found["clear_agreement"] if found else None


def thread_counts(model: dict[str, Any]) -> list[int]:
    return sorted({t["threads"] for row in model["variants"] for t in row["latency"]}) or [1]


def most_threads(model: dict[str, Any]) -> int:
    return thread_counts(model)[-1]


def _table(model: dict[str, Any]) -> Table:
    metric = model["metric"]
    told = f", {metric['name']} of Keras {units.number(metric['reference'])}" if metric else ""
    table = plain_table(f"{model['model']} v{model['version']}{told}")
    threads = most_threads(model)
    table.add_column("", no_wrap=True)
    for column in ("", "file", "gzip", "metric", "clear", "steps"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("invoke", f"{threads} thr.", "no XNN", "predict", "memory"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in model["variants"]:
        if row["error"]:
            table.add_row(row["variant"], "[dim]–[/]")
            continue
        found = row["quality"]
        verdict = found["verdict"] if found else "fail"
        table.add_row(
            row["variant"],
            f"[{COLOURS[verdict]}]{SIGNS[verdict]}[/]",
            units.size(row["bytes"]),
            units.size(row["gzip_bytes"]),
            units.number(metric_of(row)),
            units.share(clear_agreement(row)),
            steps(found["error_in_scales"] if found else None),
            *(units.microseconds(time) for time in times(row, threads)),
            units.size(own_memory(row)),
        )
    for timing in model["tensorflow"]:
        threads_told = "all cores" if timing["threads"] is None else f"{timing['threads']} thread"
        table.add_row(f"TF, {threads_told}", *[""] * 9, units.microseconds(timing["p50_us"]))
    return table


def times(row: dict[str, Any], threads: int) -> tuple[float | None, ...]:
    """invoke() on one thread, on most threads, on one without XNNPACK; predict()."""
    return (
        invoke_us(row),
        invoke_us(row, threads=threads),
        invoke_us(row, delegate="none"),
        invoke_us(row, call="predict"),
    )


def own_memory(row: dict[str, Any]) -> int | None:
    """Bytes, to 10 kB: pages are what the system counts in."""
    value = row["memory"]["own_bytes"] if row["memory"] else None
    return None if value is None else round(value / 1e4) * 10_000


def steps(value: float | None) -> str:
    """Of an error in steps of the output: "23", "0.48", "< 0.01"."""
    if value is None:
        return units.NOTHING
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2g}" if value >= 0.01 else "< 0.01"


def _beside(screen: Console, model: dict[str, Any]) -> None:
    for row in model["variants"]:
        if row["error"]:
            screen.print(f"– {row['variant']}: {row['error']}", markup=False, soft_wrap=True)
        elif told := compression_told(row):
            screen.print(f"{row['variant']}: {told}", markup=False, soft_wrap=True)
        if row["trouble"]:
            screen.print(f"✗ {row['variant']}: {row['trouble']}", markup=False, soft_wrap=True)
        elif row["quality"] and row["quality"]["verdict"] == "fail":
            screen.print(f"✗ {row['variant']}: {row['quality']['reason']}", markup=False, soft_wrap=True)
        for timing in row["latency"]:
            if timing["error"]:
                where = f"{row['variant']}, {timing['call']}, {timing['delegate']}, {timing['threads']} threads"
                screen.print(f"✗ {where}: {timing['error']}", markup=False, soft_wrap=True)
    if model["service"] and model["service"]["error"]:
        screen.print(f"edge service: not measured: {model['service']['error']}", markup=False, soft_wrap=True)
    for found in model["recommended"] if not model["stand_in"] else ():
        screen.print(f"{found['purpose']}: {found['variant'] or '–'}: {found['reason']}", markup=False, soft_wrap=True)
    for found in model["layers"]:
        screen.print(lost_most(found), markup=False, soft_wrap=True)
    if not model["stand_in"]:
        screen.print(calibration_told(model), markup=False, soft_wrap=True)


def lost_most(found: dict[str, Any]) -> str:
    """One sentence: which tensors of a variant lose most, and where the error first jumps."""
    if found["error"]:
        return f"{found['variant']}: its layers could not be looked into: {found['error']}"
    worst = losing(found)[:LOST]
    if not worst:
        return f"{found['variant']} loses nothing between its layers"
    told = ", ".join(f"{short(tensor)} +{percent(tensor['added'])}" for tensor in worst)
    jump = found["first_jump"]
    where = "grows little by little" if jump is None else f"first jumps at {short(found['tensors'][jump])}"
    return f"{found['variant']} loses most at {told}; the error {where}"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 1 else f"{100 * value:.2g} %"


def losing(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The tensors that add an error, what adds most first."""
    return [tensor for place in found["ranking"] if (tensor := found["tensors"][place])["added"] > 0]


def short(tensor: dict[str, Any]) -> str:
    """ "CONV_2D conv2d_1" of a name like "core_1/conv2d_1/convolution;core_1/…"."""
    first = tensor["name"].split(";")[0].split("/")
    name = "/".join(first[1:] if len(first) > 1 else first)
    return f"{tensor['op']} {'(the output)' if name.startswith(OUTPUT) else name}"


def calibration_told(model: dict[str, Any]) -> str:
    points = model["calibration"]
    if not points:
        return "calibration: no curve was measured; `python -m lite.calibration` writes it beside the files"
    agrees = points[0]["clear_agreement"] is not None
    field, name, text = (
        ("clear_agreement", "agreement on clear samples", units.share)
        if agrees
        else ("error_in_scales", "steps off", steps)
    )
    right, wrong = by_source(points)
    curve = ", ".join(f"{text(point[field])} with {point['rows']}" for point in right)
    beside = "".join(f"; {text(point[field])} with {point['rows']} {point['source']}" for point in wrong)
    return f"calibration, {name}: {curve} rows of the {right[0]['source']}{beside}"


def by_source(points: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The points of the curve, from what a file should be calibrated with, and those from something else."""
    right = [point for point in points if point["source"] == points[0]["source"]]
    return right, [point for point in points if point["source"] != points[0]["source"]]


def compression_told(row: dict[str, Any]) -> str:
    """What a compressed variant was trained to, and what it cost: empty for one that was not trained further."""
    found = row["compression"]
    if not found:
        return ""
    parts = [f"trained {found['epochs']} epochs more" if found.get("epochs") else "trained further"]
    reached = found.get("reached") or {}
    if reached.get("sparsity"):
        parts.append(f"{units.share(reached['sparsity'])} of the weights are zero")
    if found.get("target", {}).get("clusters"):
        parts.append(f"{reached.get('distinct', found['target']['clusters'])} distinct weights in a kernel")
    if metric := found.get("metric"):
        before, after = units.number(metric["before"]), units.number(metric["after"])
        parts.append(f"{metric['name']} {before} → {after}, before conversion")
    return "; ".join(parts)


def _recommendations(models: Sequence[dict[str, Any]]) -> Table:
    table = plain_table("Which one to take")
    table.add_column("", no_wrap=True)
    for found in models[0]["recommended"]:
        table.add_column(found["purpose"], no_wrap=True)
    for model in models:
        table.add_row(model["model"], *(found["variant"] or units.NOTHING for found in model["recommended"]))
    return table


def by_what(bars: Sequence[dict[str, Any]]) -> tuple[dict[str, str], dict[str, dict[str, dict[str, Any]]]]:
    """The columns, {what: its bar}, and the rows, {model: {what: bar}}."""
    columns: dict[str, str] = {}
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for bar in bars:
        columns[bar["what"]] = columns.get(bar["what"]) or bar_told(bar)
        rows.setdefault(bar["model"], {})[bar["what"]] = bar
    return columns, rows


def _bars(bars: Sequence[dict[str, Any]]) -> Table:
    columns, rows = by_what(bars)
    table = plain_table("Speed, all calls of a model in turn within one run; CPU time of the service")
    table.add_column("", no_wrap=True)
    for what, bar in columns.items():
        table.add_column(f"{what}{f', {bar}' if bar else ''}", justify="right")
    for model, found in rows.items():
        table.add_row(model, *(_bar_cell(found.get(what)) for what in columns))
    return table


def _bar_cell(bar: dict[str, Any] | None) -> str:
    if bar is None:
        return units.NOTHING
    colour = {True: "green", False: "bold red", None: "dim"}[bar["holds"]]
    return f"[{colour}]{sign(bar)} {value_told(bar)}[/]"


def sign(bar: dict[str, Any]) -> str:
    return {True: "✓", False: "✗", None: ""}[bar["holds"]]


def value_told(bar: dict[str, Any]) -> str:
    return f"{bar['value']:.2f} ×" if bar["unit"] == "×" else f"{bar['value']:.0f} µs"


def bar_told(bar: dict[str, Any]) -> str:
    if bar["bar"] is None:
        return ""
    return f"≥ {bar['bar']:g} ×" if bar["unit"] == "×" else f"≤ {bar['bar']:g} µs"


def markdown(document: dict[str, Any]) -> str:
    """The README's table, from this run."""
    lines = [
        "| model | variant | kB | gzip | metric | agrees, clear / all | steps off | `invoke()` | without XNNPACK | `predict()` | memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model in document["models"]:
        metric = model["metric"]
        name = f"`{model['model']}`" + (f", {metric['name']} {units.number(metric['reference'])}" if metric else "")
        for row in model["variants"]:
            lines.append(f"| {name} | `{row['variant']}` | " + " | ".join(_cells(row, most_threads(model))) + " |")
            name = ""
    own = [model for model in document["models"] if not model["stand_in"]]
    if own:
        purposes = [found["purpose"] for found in own[0]["recommended"]]
        lines += ["", "| take for | " + " | ".join(purposes) + " |", "|---" * (len(purposes) + 1) + "|"]
        for model in own:
            names = (f"`{found['variant']}`" if found["variant"] else units.NOTHING for found in model["recommended"])
            lines.append(f"| `{model['model']}` | " + " | ".join(names) + " |")
    columns, rows = by_what(document["bars"])
    lines += ["", "| | " + " | ".join(f"{w}{f', {b}' if b else ''}" for w, b in columns.items()) + " |"]
    lines += ["|---" * (len(columns) + 1) + "|"]
    for name, found in rows.items():
        cells = (f"{sign(found[w])} {value_told(found[w])}".strip() if w in found else "–" for w in columns)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    lines += [
        f"- no `{row['variant']}` of `{model['model']}`: {row['error']}"
        for model in document["models"]
        for row in model["variants"]
        if row["error"]
    ]
    return "\n".join([*lines, "", f"Measured on {measured_on(document)}."])


def _cells(row: dict[str, Any], threads: int) -> list[str]:
    if row["error"]:
        return [units.NOTHING] * 9
    found, invoke = row["quality"], times(row, threads)
    decided = found["agreement"] if found else None
    agrees = f"{units.share(decided['clear_agreement'])} / {units.share(decided['agreement'])}" if decided else "–"
    off = steps(found["error_in_scales"]) if found else "–"
    memory = units.size(own_memory(row))
    return [
        f"{row['bytes'] / 1000:.0f}",
        f"{row['gzip_bytes'] / 1000:.0f}",
        units.number(metric_of(row)) + ("" if not found or found["verdict"] != "fail" else " ✗"),
        agrees,
        off,
        *(units.microseconds(invoke[i]) for i in (0, 2, 3)),
        memory,
    ]
