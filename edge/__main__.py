"""``edge serve`` and ``edge bench``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from edge import bench, serve
from edge.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="edge", description="Answer predictions from .tflite files over HTTP.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve.add_parser(commands)
    bench.add_parser(commands)
    options = parser.parse_args(argv)
    try:
        sys.exit(bench.run(options) if options.command == "bench" else serve.run(options))
    except EdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
