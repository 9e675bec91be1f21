"""Errors that are the user's to fix: one sentence with the value seen and the remedy, never a traceback.

ExportOnceError
├── ArtifactError      an artefact is missing, damaged, or cannot be written
├── ModelError         a model or a version is unknown, or its file is unusable
├── DeployError        a port is taken, a service does not become healthy
└── TargetError        a runtime, a browser or a server is missing or answers with an error
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ExportOnceError(Exception):
    """Something the user can fix. ``exit_code`` is what the command line returns."""

    exit_code = 2


class ArtifactError(ExportOnceError):
    pass


class ModelError(ExportOnceError):
    pass


class DeployError(ExportOnceError):
    pass


class TargetError(ExportOnceError):
    pass


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command-line ``main``; an ExportOnceError becomes one line on stderr, Ctrl-C a clean stop."""
    try:
        sys.exit(main() or 0)
    except ExportOnceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, run the command again to go on", file=sys.stderr)
        sys.exit(130)


def interruptible() -> None:
    """SIGTERM, and SIGHUP unless ignored (nohup), stop as cleanly as Ctrl-C; lines are flushed as they are printed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # a terminal that is closed
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIOWrapper
