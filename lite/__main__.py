"""``python -m lite``: SavedModel → artifacts/lite/<model>/<version>/<variant>.tflite + .json, whatever is out of date."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from lite.build import build
from lite.variants import DEPLOYED, VARIANTS
from models.artifacts import artifacts_root
from models.errors import run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lite",
        description="Convert every exported SavedModel to .tflite files; what is up to date stays as it is.",
        epilog="Environment: ARTIFACTS is the folder of the artefacts, MODELS=mlp,cnn restricts the models.",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        help=f"only these: {', '.join(VARIANTS)}; or deployed, which is {', '.join(DEPLOYED)} (default: all)",
    )
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    models = [name.strip() for name in os.environ.get("MODELS", "").split(",") if name.strip()]
    variants = DEPLOYED if arguments.variants == ["deployed"] else arguments.variants
    results, current = build(models=models or None, variants=variants)
    failed = [result for result in results if result.error]
    print(
        f"lite: {len(results) - len(failed)} files converted, {len(failed)} cannot be, {current} up to date, "
        f"{time.monotonic() - started:.1f} s; result in {artifacts_root() / 'lite'}"
    )


if __name__ == "__main__":
    run_cli(main)
