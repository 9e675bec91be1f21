"""Build web/demo into web/demo/dist when its sources changed: ``python -m deploy.page`` (``--check`` runs tsc alone)."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from deploy.environments import REPOSITORY, run_npm
from models.artifacts import fingerprint, is_current, write_json
from models.errors import run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = REPOSITORY / "web" / "demo"
MADE = {"node_modules", "dist"}
BUILT = "built.json"  # what the page was made from; inside it, so that it goes away with the page


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.page", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="check the types, build nothing")
    if parser.parse_args(argv).check:
        run_npm("run", "check", folder=PAGE, remedy="see the lines above")
        print("the page's types are sound")
        return 0
    sources = [p for p in PAGE.iterdir() if p.name not in MADE and not p.name.startswith(".") and p.suffix != ".md"]
    made_from = fingerprint(sources)
    if not is_current(PAGE / "dist" / BUILT, made_from):
        start = time.monotonic()
        print("page: building web/demo", flush=True)
        run_npm("run", "build", folder=PAGE, remedy="see the lines above")  # replaces dist when it is whole
        write_json(PAGE / "dist" / BUILT, {"made_from": made_from})
        print(f"page: built in {time.monotonic() - start:.0f} s", flush=True)
    print(f"page: {PAGE / 'dist'}")
    return 0


if __name__ == "__main__":
    run_cli(main)
