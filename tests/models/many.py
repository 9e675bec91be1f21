"""Work for several processes, as ``models.train`` and ``export`` give it to them; run as a script, a command of that form."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from models.artifacts import sweep, write_whole
from models.errors import ModelError, interruptible, run_cli
from models.side_by_side import side_by_side


def note(item: str, *, folder: Path) -> None:
    """That it was begun, when and by whom."""
    with write_whole(folder / item) as path:
        path.write_text(f"{time.monotonic_ns()} {os.getpid()}")


def refuse(item: str, *, folder: Path) -> None:
    """``bad`` fails when the other one is halfway; that one would take for ever."""
    if item == "bad":
        while not list(folder.glob(".tmp-*/half")):
            time.sleep(0.01)
        raise ModelError(f"{item} cannot be used; take another")
    write_for_ever(item, folder=folder)


def die(item: str) -> None:
    """As a process that the kernel ends where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def write_for_ever(item: str, *, folder: Path) -> None:
    with write_whole(folder / item) as path:
        path.mkdir()
        (path / "half").touch()
        while True:
            time.sleep(60)


def main(folder: Path) -> int:
    try:
        side_by_side(partial(write_for_ever, folder=folder), ["a", "b", "c"])
    finally:
        sweep(folder)
    return 0


if __name__ == "__main__":
    interruptible()
    run_cli(lambda: main(Path(sys.argv[1])))
