"""At the end of a run: the time of each room. With RECORD_DURATIONS=NAME it is kept in ``durations.json``, beside each file's.

Several runs of pytest under one name are one recording: those that run alone, and those of ``make test-ci``, are runs of
their own.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from deploy.figures import provenance
from tests.order import DURATIONS, file_of, room_of

if TYPE_CHECKING:
    import pytest

SLOWEST = 50
SEED = "EXPORT_ONCE_FUZZ_SEED"  # the property under which a fuzzing test tells its seed, and the variable that sets it


class Durations:
    """A pytest plugin. Seconds of a test are those of its set-up, call and teardown together."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.seeds: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        self.seeds |= {f"{value}" for name, value in report.user_properties if name == SEED}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        rooms: dict[str, list[float]] = defaultdict(list)
        for nodeid, seconds in self.seconds.items():
            rooms[room_of(nodeid)].append(seconds)
        if not rooms:
            return
        terminalreporter.section("time of each room")
        for room, times in sorted(rooms.items(), key=lambda item: -sum(item[1])):
            terminalreporter.write_line(f"{room:<10}{sum(times):8.1f} s  {len(times):5d} tests")
        if self.seeds:
            terminalreporter.write_line(f"fuzzed with {SEED}={', '.join(sorted(self.seeds))}")
        if os.environ.get("RECORD_DURATIONS"):
            self._record()
            terminalreporter.write_line(f"recorded in {DURATIONS}")

    def _record(self) -> None:
        name = os.environ["RECORD_DURATIONS"]
        kept = json.loads(DURATIONS.read_text()) if DURATIONS.is_file() else {}
        earlier = kept if kept.get("recording") == name else {"files": {}, "slowest": {}}
        files, slowest, rooms = Counter(earlier["files"]), Counter(earlier["slowest"]), Counter[str]()
        for nodeid, seconds in self.seconds.items():
            files[file_of(nodeid)] += seconds
            slowest[nodeid] += seconds
        for file, seconds in files.items():
            rooms[room_of(file)] += seconds
        content = {
            "recording": name,
            **provenance(),
            "rooms": {room: round(seconds, 1) for room, seconds in rooms.most_common()},
            "slowest": {nodeid: round(seconds, 1) for nodeid, seconds in slowest.most_common(SLOWEST)},
            "files": {file: round(seconds, 2) for file, seconds in sorted(files.items())},
        }
        DURATIONS.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
