"""``python -m compare.trial RUN RUN …``: how many figures are called changed between runs of the same code, where nothing changed.

Every pair of the runs is compared, once by the Mann–Whitney test with Holm's correction alone, once by the rules of
``repeats.py``. What either calls changed is an error of it, as long as code, artefacts and machine are the same in all runs.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING

from rich.console import Console

from compare import history, repeats, runs, units
from compare.terminal import WIDTH, plain_table
from models.artifacts import reports_root
from models.errors import ModelError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.history import Run


def trial(found: Sequence[Run]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """By kind of figure (p50, …), over all pairs of runs: how many there are, and those that test and rules call changed."""
    told, by_test, by_rules = Counter[str](), Counter[str](), Counter[str]()
    for a, b in combinations(found, 2):
        pairs = runs.pairs(a, b)
        judged, _ = repeats.judge(pairs)
        for one, alone in zip(judged, repeats.changed_by_the_test_alone(pairs), strict=True):
            if one.says in (repeats.CHANGED, repeats.NOISE):
                told[one.pair.figure] += 1
                by_test[one.pair.figure] += alone
                by_rules[one.pair.figure] += one.says == repeats.CHANGED
    return told, by_test, by_rules


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.trial", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run ids of the same code on the same machine; two or more"
    )
    run_ids = parser.parse_args(argv).runs
    if len(run_ids) < 2:
        raise ModelError(f"a trial is of two runs or more, and {run_ids[0]} is one; make the same comparison again")
    history.refuse_repeated(run_ids)
    told, by_test, by_rules = trial([history.read_run(reports_root(), run_id) for run_id in run_ids])
    if not told:
        raise ModelError(
            "these runs have no figure in common that can be told; compare runs of the same models and targets"
        )
    screen = Console(width=WIDTH, highlight=False)
    table = plain_table(f"Called changed in {len(run_ids) * (len(run_ids) - 1) // 2} pairs of {len(run_ids)} runs")
    table.add_column("")
    for column in ("figures", "by the test alone", "by the rules"):
        table.add_column(column, justify="right")
    for name, counts in [*((figure, [figure]) for figure in told), ("all", list(told))]:
        n, alone, ruled = (sum(counter[figure] for figure in counts) for counter in (told, by_test, by_rules))
        table.add_row(name, str(n), *(f"{changed}, {units.share(changed / n)}" for changed in (alone, ruled)))
    screen.print(table)
    return 0


if __name__ == "__main__":
    run_cli(main)
