"""``edge serve`` and ``edge bench``."""

from __future__ import annotations

import argparse
import sys

from edge import bench, serve
from edge.errors import EdgeError


def main() -> None:
    parser = argparse.ArgumentParser(prog="edge", description="Answer predictions from .tflite files over HTTP.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve.add_parser(commands)
    bench.add_parser(commands)
    options = parser.parse_args()
    try:
        sys.exit(bench.run(options) if options.command == "bench" else serve.run(options))
    except EdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
