"""``python -m compare import``: a device's benchmark becomes rows of the summary and the report, now and in later runs.

The files are kept whole in ``reports/imported/<device>.json`` and judged anew by each comparison, against the evidence of
that day. Their rows have the targets ``lite-<variant>@<device>``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema

from compare import report, summary, terminal
from compare.imported import device_name, read_bench, rows_of
from export.bundle import find_exports
from models.artifacts import read_json, reports_root, write_json
from models.errors import ArtifactError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from compare.rows import Row


def kept(folder: Path) -> dict[str, dict[str, Any]]:
    """Device → its benchmark. Raises ArtifactError for a file that is damaged, before a comparison has cost any time."""
    return {path.stem: read_bench(path) for path in sorted((folder / "imported").glob("*.json"))}


def import_bench(path: Path, *, folder: Path | None = None) -> int:
    """Keep the file, judge it, show its rows, put them into the report that there is; the number of failed rows."""
    folder = folder or reports_root()
    bench = read_bench(path)
    name = device_name(bench)
    rows, left_out = rows_of(bench, find_exports())
    for sentence in left_out:
        print(f"left out: {sentence}")
    if not rows:
        raise ModelError(f"{path} has no row of a model that is here; import it where the bundle was made")
    write_json(folder / "imported" / f"{name}.json", bench)
    shown = [row.to_json() for row in rows]
    screen = terminal.console(shown)
    terminal.show_rows(screen, shown)
    screen.print(f"kept as {folder / 'imported' / name}.json; {_put_into_report(folder, name, rows)}", soft_wrap=True)
    return sum(row.verdict.verdict == "fail" for row in rows)


def remove_device(name: str, *, folder: Path | None = None) -> None:
    """Forget a device's benchmark. Raises ModelError that names those there are."""
    folder = folder or reports_root()
    path = folder / "imported" / f"{name}.json"
    there = sorted(p.stem for p in path.parent.glob("*.json"))
    if name not in there:
        raise ModelError(f"no device named {name!r} was imported; there are: {', '.join(there) or 'none'}")
    path.unlink()
    print(f"removed {path}; {_put_into_report(folder, name, [])}")


def _put_into_report(folder: Path, name: str, rows: Sequence[Row]) -> str:
    """Change summary and page in place, not the history: that stays as it was run. What was done, in words."""
    path = folder / "summary.json"
    if not path.is_file():
        return "there is no report yet: `make demo` writes it, with these rows"
    data = read_json(path)
    try:
        changed = summary.with_device(data, name, rows)
    except (jsonschema.ValidationError, KeyError) as error:
        raise ArtifactError(f"{path} is of an older form; run `make demo` to write it again") from error
    write_json(path, changed)
    return f"report: {report.write(folder, changed, report.tables_of(folder, data))}"
