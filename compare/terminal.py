"""The tables on the terminal: 100 columns (more where a device's name is long), readable in a log file too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compare import units

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH = 100
NAME_WIDTH = 14  # of the targets' column, for which WIDTH is enough
MARKS = {"pass": "✓ pass", "fail": "✗ FAIL", "skipped": "– skip", "info": "i info"}
COLOURS = {"pass": "green", "fail": "bold red", "skipped": "dim", "info": "cyan"}


def console(rows: Sequence[dict[str, Any]] = ()) -> Console:
    """For a summary's rows; they need not be known for other tables."""
    width = WIDTH + max([0, *(len(row["target"]) - NAME_WIDTH for row in rows)])
    screen = Console(highlight=False)
    return screen if screen.is_terminal and screen.width >= width else Console(width=width, highlight=False)


def worst(row: dict[str, Any], field: str) -> float | None:
    """The largest of one figure over a row's outputs."""
    values = [output[field] for output in row["outputs"] if output[field] is not None]
    return max(values, default=None)


def rule(row: dict[str, Any]) -> str:
    """What the row is held to: the tolerance, or the agreement that it reached on clear samples."""
    if (tolerance := worst(row, "tolerance")) is not None:
        return f"≤ {tolerance:.0e}"
    if row["decision"]:
        return f"agree {units.share(row['decision']['clear_agreement'])}"
    if row["metric"] and row["metric"]["reference"]:
        return f"{row['metric']['name']} {row['metric']['value'] / row['metric']['reference']:.3f}×"
    return units.NOTHING


def show(screen: Console, summary: dict[str, Any], beside: dict[str, Any], report: Path, address: str | None) -> None:
    """Print everything: the verdicts, why rows failed or were skipped, the tables beside, and where the report is."""
    show_rows(screen, summary["rows"])
    if beside["versions"]:
        screen.print(versions_table(beside["versions"]))
    if beside["nonfinite"]:
        screen.print(_nonfinite(beside["nonfinite"]))
    host = summary["host"]
    screen.print(
        f"\n{host['cpu']}, {host['cores']} cores, {host['system']}; "
        + ", ".join(
            f"{k} {summary['versions'][k]}"
            for k in ("python", "tensorflow", "ai-edge-litert")
            if k in summary["versions"]
        )
    )
    colour = "bold red" if summary["failed"] else "bold green"
    counts = f"{summary['passed']} passed, {summary['failed']} failed, {summary['skipped']} skipped"
    screen.print(
        f"[{colour}]{counts}[/]" + (f", {summary['info']} info" if summary["info"] else "") + f"  report: {report}",
        soft_wrap=True,
    )
    if address:
        screen.print(f"page: {address}", soft_wrap=True)


def show_rows(screen: Console, rows: list[dict[str, Any]]) -> None:
    """The verdicts, and why rows failed or were skipped."""
    screen.print(_verdicts(rows))
    _reasons(screen, rows)


def _verdicts(rows: list[dict[str, Any]]) -> Table:
    table = plain_table("Is it still the same model?")
    table.add_column("", no_wrap=True, min_width=NAME_WIDTH)
    table.add_column("verdict", no_wrap=True)
    for column in ("max error", "held to", "passes at", "cold", "first", "p50", "p95", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    previous = None
    for row in rows:
        name = f"{row['model']} v{row['version']}"
        if name != previous:
            table.add_row(f"[bold]{name}[/]")
            previous = name
        latency = row["latency"][0] if row["latency"] else {}
        table.add_row(
            f"  {row['target']}",
            f"[{COLOURS[row['verdict']]}]{MARKS[row['verdict']]}[/]",
            units.error(worst(row, "max_abs")),
            rule(row),
            units.error(worst(row, "would_pass_at")),
            *(units.milliseconds(latency.get(f"{kind}_ms")) for kind in ("cold", "first", "p50", "p95")),
            units.size(row["artifact_bytes"]),
        )
    return table


def plain_table(title: str) -> Table:
    return Table(
        box=None, padding=(0, 1, 0, 0), title=f"\n{title}", title_justify="left", title_style="bold", header_style="dim"
    )


def _reasons(screen: Console, rows: list[dict[str, Any]]) -> None:
    """Failures each on their own, skips with the same reason together."""
    screen.print()
    for row in rows:
        if row["verdict"] == "fail":
            screen.print(f"[bold red]✗[/] {escape(row['model'])} v{row['version']} on {row['target']}: ", end="")
            screen.print(row["reason"], markup=False, soft_wrap=True)
            screen.print(f"  next: {row['next']}", markup=False, soft_wrap=True)
    for targets, models, reason in grouped_reasons(rows, ("skipped", "info")):
        screen.print(f"– {', '.join(models)} on {', '.join(targets)}: {reason}", markup=False, soft_wrap=True)


def grouped_reasons(rows: list[dict[str, Any]], verdicts: tuple[str, ...]) -> list[tuple[list[str], list[str], str]]:
    """(targets, models, reason): every pair of them has that reason."""
    by_target: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["verdict"] in verdicts and row["reason"]:
            by_target.setdefault((row["target"], row["reason"]), []).append(f"{row['model']} v{row['version']}")
    groups: dict[tuple[str, str], tuple[list[str], list[str], str]] = {}
    for (target, reason), models in by_target.items():
        groups.setdefault((reason, str(models)), ([], models, reason))[0].append(target)
    return list(groups.values())


def versions_table(shifts: list[dict[str, Any]]) -> Table:
    table = plain_table("From version to version, same rows")
    for column in ("model", "target", "versions", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("older", "newer", "agreement", "mean shift", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for shift in shifts:
        table.add_row(
            shift["model"],
            shift["target"],
            f"{shift['old']} → {shift['new']}",
            shift["metric_name"],
            units.number(shift["old_metric"]),
            units.number(shift["new_metric"]),
            units.share(shift["agreement"]),
            f"{shift['mean_shift']:.2g}",
            str(shift["n"]),
        )
    return table


def _nonfinite(answers: list[dict[str, Any]]) -> Table:
    """Targets that answer alike share a line."""
    table = plain_table("What NaN and infinity give (no verdict)")
    table.add_column("model", no_wrap=True)
    table.add_column("NaN", max_width=20)
    table.add_column("+Inf", max_width=20)
    table.add_column("−Inf", max_width=20)
    table.add_column("targets")
    for model, told, targets in grouped_nonfinite(answers):
        table.add_row(model, told["NaN"], told["+Inf"], told["−Inf"], ", ".join(targets))
    return table


def grouped_nonfinite(answers: list[dict[str, Any]]) -> list[tuple[str, dict[str, str], list[str]]]:
    """(model, what each kind of input gives, the targets that answer so), older versions left out."""
    newest = {a["model"]: max(b["version"] for b in answers if b["model"] == a["model"]) for a in answers}
    groups: dict[tuple[str, str], tuple[str, dict[str, str], list[str]]] = {}
    for answer in answers:
        if answer["version"] == newest[answer["model"]]:
            key = (answer["model"], str(answer["answers"]))
            groups.setdefault(key, (answer["model"], answer["answers"], []))[2].append(answer["target"])
    return list(groups.values())
