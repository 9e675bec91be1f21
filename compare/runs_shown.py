"""Two runs beside each other, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from compare import repeats, units
from compare.terminal import WIDTH, plain_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from compare.history import Run

SHOWN = 12  # of lists that may be long; --json has all


def show(result: dict[str, Any], screen: Console | None = None) -> None:
    screen = screen or Console(width=WIDTH, highlight=False)

    def say(words: str) -> None:
        screen.print(words, markup=False, soft_wrap=True)

    say(f"A {result['a']}, B {result['b']}")
    for sentence in result["differences"]:
        say(sentence)
    for shift in result["machine"]:
        say(shift["told"])
    together = [g for g in result["groups"] if g["figure"] in ("p50", "p50 under load")]
    if together:
        say("moved together, B by A: " + ", ".join(f"{g['group']} {g['ratio']:.2f} ×" for g in together))
    for group in dict.fromkeys(f["group"] for f in result["figures"]):
        screen.print(_table(group, [f for f in result["figures"] if f["group"] == group]))
    for failure in result["failures"]:
        (fa, na), (fb, nb) = failure["a"], failure["b"]
        say(f"{failure['row']}: failed {fa} of {na} in A, {fb} of {nb} in B: {failure['says']}")
    say("")
    exact = result["exact"]
    if result["rows"]:
        say("outputs, verdicts and artefacts: " + ("the same" if not exact else f"{len(exact)} differ"))
    for change in exact[:SHOWN]:
        say(f"  {change['row']}: {change['what']} {_value(change['a'])} → {_value(change['b'])}")
    for name, which in (("A", "only_in_a"), ("B", "only_in_b")):
        if result[which]:
            say(f"only in {name}: {', '.join(result[which][:SHOWN])}{_more(result[which])}")
    if result["invalid"]:
        say(f"left out, not valid: {', '.join(result['invalid'][:SHOWN])}{_more(result['invalid'])}")
    if result["single"]:
        say(
            f"cold and first times of {len({s['row'] for s in result['single']})} rows: measured once, {repeats.FEW_REPEATS}"
        )
    say(
        f"percentages are beside the other rows; changed: p < {repeats.SURE:g} after Holm, at least {100 * repeats.SMALLEST:g} %, "
        f"and beyond {repeats.SPREADS:g} × the spread among the rows"
    )
    if result["too_few"]:
        say("more runs of a side, taken together, tell more: make compare-runs A=RUN,RUN,RUN B=RUN,RUN,RUN")
    colour = "bold" if result["changed"] else "bold green"
    few = f", {result['too_few']} too few to tell" if result["too_few"] else ""
    screen.print(f"[{colour}]{result['changed']} changed, {result['noise']} noise{few}[/]")


def list_runs(folder: Path, runs: Sequence[Run], unusable: Sequence[str], screen: Console | None = None) -> None:
    """``unusable``: a sentence for each run that is there and cannot be compared."""
    screen = screen or Console(width=WIDTH, highlight=False)
    for sentence in unusable:
        screen.print(f"left out: {sentence}", markup=False, soft_wrap=True)
    if not runs and unusable:
        return
    if not runs:
        screen.print(f"there are no runs in {folder / 'history'}: run make demo", soft_wrap=True)
        return
    table = plain_table("Runs that can be compared")
    table.add_column("run", no_wrap=True)
    for column in ("rows", "timed", "repeats", "load cells"):
        table.add_column(column, justify="right")
    table.add_column("models")
    for run in runs:
        timed = [r["latency"][0]["repeat"] for r in run.rows.values() if r["latency"] and r["latency"][0]["repeat"]]
        models = dict.fromkeys([r["model"] for r in run.rows.values()] + [c["model"] for c in run.cells])
        figures = (len(run.rows), len(timed), max(timed, default=0), len(run.cells))
        table.add_row(run.run_id, *(str(n) if n else units.NOTHING for n in figures), escape(", ".join(models)))
    screen.print(table)
    if len(runs) > 1:
        screen.print(f"\ncompare two: make compare-runs A={runs[0].run_id} B={runs[-1].run_id}", soft_wrap=True)


def _table(group: str, figures: Sequence[dict[str, Any]]) -> Any:
    """A line for each row; its p50 in both runs, and what is said of each figure."""
    kinds = list(dict.fromkeys(f["figure"] for f in figures))
    table = plain_table(escape(group))
    table.add_column("")
    for column in ("A", "B", *(kind.partition(" ")[0] for kind in kinds)):
        table.add_column(column, justify="right", no_wrap=True)
    for row in dict.fromkeys(f["row"] for f in figures):
        own = {f["figure"]: f for f in figures if f["row"] == row}
        first = own.get(kinds[0])
        factor = 1e3 if first and first["unit"] == "s" else 1
        middles = [units.milliseconds(first[side] * factor) if first else units.NOTHING for side in ("a", "b")]
        table.add_row(escape(row), *middles, *(_cell(own.get(kind)) for kind in kinds))
    return table


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return units.NOTHING
    told = f"{100 * (figure['ratio_beside_the_others'] - 1):+.0f} %"
    if figure["says"] == repeats.CHANGED:
        return f"[bold]CHANGED {told}[/]"
    return f"{'noise' if figure['says'] == repeats.NOISE else 'too few'} {told}"


def _value(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:8]
    return units.error(value) if isinstance(value, float) else str(value)


def _more(entries: Sequence[Any]) -> str:
    return f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
