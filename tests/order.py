"""In which order test files run, and which of them in one process, one after another.

``groups.toml`` names those that belong together. ``durations.json`` has how long each file took when it was last
recorded (``make test-durations``): the group that takes longest starts first, so that two processes end at about one
time. It has no other use: a file that it does not know runs last.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
DURATIONS = FOLDER / "durations.json"


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def room_of(nodeid: str) -> str:
    """``tests/serving/test_tls.py::…`` → ``serving``."""
    return file_of(nodeid).split("/")[1]


@cache
def group_of(file: str) -> str:
    """The group of a test file; its own name where it is in none."""
    return _groups().get(file, file)


@cache
def place_of(group: str) -> tuple[float, str]:
    """What to sort groups by: the longest first."""
    return -sum(seconds for file, seconds in _seconds().items() if group_of(file) == group), group


@cache
def _groups() -> dict[str, str]:
    groups = tomllib.loads((FOLDER / "groups.toml").read_text())
    return {file: group for group, files in groups.items() for file in files}


@cache
def _seconds() -> dict[str, float]:
    return json.loads(DURATIONS.read_text())["files"] if DURATIONS.is_file() else {}
