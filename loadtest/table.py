"""The figures of a run on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compare import units
from compare.terminal import plain_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PERCENTILES = ("p50", "p95", "p99", "p999")


def show(screen: Console, data: dict[str, Any]) -> None:
    """The table, why requests failed, why cells are invalid, and where it ran."""
    screen.print(_table(data["cells"]))
    screen.print()
    for cell in data["cells"]:
        name = f"{cell['model']} on {cell['target']}, {cell['loop']} loop"
        if cell["failed"]:
            said = "; ".join(f"{error['count']} × {error['message']}" for error in cell["errors"])
            screen.print(f"[bold red]✗[/] {name}: ", end="")
            screen.print(f"{cell['failed']} of {cell['sent']} failed: {said}", markup=False, soft_wrap=True)
        if cell["invalid"]:
            screen.print(f"[bold red]✗[/] {name} is invalid: ", end="")
            screen.print(cell["invalid"], markup=False, soft_wrap=True)
    host = data["host"]
    workers = f"{data['workers']} worker{'s' if data['workers'] > 1 else ''}"
    screen.print(
        f"{host['cpu']}, {host['cores']} cores, {host['system']}; locust {data['versions']['locust']}, {workers}"
    )
    screen.print(
        "Latency counts from the moment at which a request was due. Generator: the most of a core that it used in one "
        "second, and the µs that it needs for a request to a server that does nothing; subtracted from no figure.",
        style="dim",
    )


def _table(cells: list[dict[str, Any]]) -> Table:
    table = plain_table("How long do answers take?")
    table.add_column("", no_wrap=True)
    for column in ("rate", "p50", "p95", "p99", "p99.9", "closed p99", "failed", "late", "generator"):
        table.add_column(column, justify="right", no_wrap=True)
    previous = None
    closed = {(cell["target"], cell["model"]): cell for cell in cells if cell["loop"] == "closed"}
    for cell in cells:
        if cell["loop"] == "closed":
            continue
        if cell["target"] != previous:
            table.add_row(f"[bold]{cell['target']}[/]")
            previous = cell["target"]
        beside = closed.get((cell["target"], cell["model"]))
        failed = cell["failed"] + (beside["failed"] if beside else 0)
        invalid = cell["invalid"] or (beside and beside["invalid"])
        generator = f"{cell['generator']['cpu']:.0%} {units.microseconds(cell['generator']['overhead_us'])}"
        table.add_row(
            f"  {cell['model']}",
            f"{cell['rate']:.0f}/s",
            *(units.milliseconds(cell["latency_ms"][name]) for name in PERCENTILES),
            units.milliseconds(beside["latency_ms"]["p99"] if beside else None),
            f"[bold red]{failed}[/]" if failed else "0",
            str(cell["late"]),
            f"[bold red]{generator}[/]" if invalid else generator,
        )
    return table
