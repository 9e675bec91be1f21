"""``python -m compare.quantization``: size, speed, memory and error of every .tflite variant (``make lite-report``)."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from compare.environment import cores
from compare.quantization import document, page, tables
from compare.quantization.run import QUICK, Effort, Selection, measure
from compare.terminal import console
from models.artifacts import reports_root, write_json
from models.errors import interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m compare.quantization", description=__doc__)
    parser.add_argument(
        "--models",
        default=os.environ.get("MODELS", ""),
        help="comma-separated; default all and the stand-in, or env MODELS",
    )
    parser.add_argument("--variants", default="", help="comma-separated; default all")
    parser.add_argument("--quick", action="store_true", help="few calls: shows that it runs, not how fast")
    parser.add_argument("--markdown", action="store_true", help="print the README's tables instead of the terminal's")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    selection = Selection(_names(options.models), _names(options.variants), QUICK if options.quick else Effort())
    models = measure(selection, threads=sorted({1, cores()}))
    found = document.compose(models, quick=options.quick)
    folder = reports_root()
    write_json(folder / "lite.json", found)
    written = page.write(folder, found)
    if options.markdown:
        print(tables.markdown(found))
    else:
        tables.show(console(), found, written)
    print(f"measured in {time.perf_counter() - start:.0f} s")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    interruptible()
    run_cli(main)
