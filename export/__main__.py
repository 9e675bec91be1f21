"""``python -m export``: Keras → SavedModel with its evidence, for every trained version that is out of date.

One process for all; a second run finds nothing to do and imports no TensorFlow.
"""

from __future__ import annotations

import argparse
import logging
import os
import time

from export.build import export_version, is_exported, made_from, training_of
from export.bundle import Export
from models import registry
from models.artifacts import artifacts_root, sweep
from models.errors import run_cli


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n")[0])
    parser.add_argument("--force", action="store_true", help="export again even when nothing has changed")
    options = parser.parse_args()
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
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger("tensorflow").setLevel("ERROR")  # it warns of every new batch size
    for number, (export, training) in enumerate(stale, 1):
        print(f"[{number}/{len(stale)}] exporting {export.model} version {export.version}", flush=True)
        export_version(export, training)
    print(
        f"exported {len(stale)} of {len(versions)} versions in {time.monotonic() - started:.0f} s: {root / 'savedmodels'}"
    )
    return 0


if __name__ == "__main__":
    run_cli(main)
