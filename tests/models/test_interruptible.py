"""A command that is told to end, by whom ever, ends as at Ctrl-C: it can tidy up."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys
from models.errors import interruptible
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)
interruptible()
try:
    print("ready")
    sys.stdin.read()
    print("not interrupted")
except KeyboardInterrupt:
    print("tidied up")
"""


@pytest.mark.parametrize(
    ("number", "how", "said"),
    [
        (signal.SIGTERM, "", "tidied up"),
        (signal.SIGHUP, "", "tidied up"),
        (signal.SIGHUP, "nohup", "not interrupted"),
    ],
)
def test_signal_interrupts_unless_it_is_ignored(number, how, said, repository, spawn):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = spawn(sys.executable, "-c", PROGRAM, how, cwd=repository, **pipes)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=60)[0] == f"{said}\n"
