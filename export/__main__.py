"""``python -m export``: Keras → SavedModel with its evidence, for every trained version that is out of date.

As many models at a time as there are cores; a second run finds nothing to do and imports no TensorFlow.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from export.build import export_versions, is_exported, made_from, training_of
from export.bundle import Export
from models import registry
from models.artifacts import artifacts_root, sweep
from models.errors import interruptible, run_cli
from models.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n")[0])
    parser.add_argument("--force", action="store_true", help="export again even when nothing has changed")
    options = parser.parse_args(argv)
    started, root = time.monotonic(), artifacts_root()
    for folder in ("savedmodels", "evidence"):
        sweep(root / folder)
    versions = [Export(root, name, version) for name in registry.selected() for version in (1, 2)]
    trainings = [training_of(export) for export in versions]
    stale = [
        (export, training)
        for export, training in zip(versions, trainings, strict=True)
        if options.force or not is_exported(export, made_from(export, training))
    ]
    if stale:
        models = registry.longest_first([*dict.fromkeys(export.model for export, _ in stale)])
        try:
            side_by_side(export_versions, [[pair for pair in stale if pair[0].model == model] for model in models])
        finally:
            for folder in ("savedmodels", "evidence"):
                sweep(root / folder)  # what a process that was ended has left
    print(
        f"exported {len(stale)} of {len(versions)} versions in {time.monotonic() - started:.0f} s: {root / 'savedmodels'}"
    )
    return 0


if __name__ == "__main__":
    interruptible()
    run_cli(main)
