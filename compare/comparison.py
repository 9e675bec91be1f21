"""The comparison: every cell opened, judged and timed, in an order that is fair to all. Writes nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.guard import Guard, Lanes, TargetCrashed, TargetHung
from compare.rows import Row
from compare.verdict import Verdict
from models.errors import ArtifactError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from compare.cold import ColdCache
    from compare.proven import Proven
    from compare.shift import VersionShift
    from compare.target import Target
    from export.bundle import Export

VERSIONED_TARGETS = ("keras", "serving-rest", "serving-grpc")  # where an older version can be asked beside the newest
FIRST = ("keras", "savedmodel")  # the reference leads every table, then what was exported from it
COLD_MODEL = "cnn"
WARM_UP_CALLS = 3
ROUNDS = (
    10  # each target gets one block per round, so that a noisy second hurts all alike; ten are enough for repeats.py
)


@dataclass(frozen=True)
class Budget:
    """Seconds. The demo's limits only cut off what hangs; ``make check`` promises 30 s per target."""

    cell: float = 120.0  # one target with one model, everything together
    cold: float = 120.0  # one cold start
    evidence: float = 1.0  # all evidence, twice; a slower target answers fewer rows
    again: float = 0.25  # the same for a cell that has passed with this very artefact
    block: float = 0.01  # one block of steady requests
    steady: bool = True


@dataclass
class Outcome:
    """Rows in the order of the tables, and the two tables beside them."""

    rows: list[Row] = field(default_factory=list)
    shifts: list[tuple[str, str, int, int, VersionShift]] = field(default_factory=list)  # model, target, old, new

    def count(self, verdict: str) -> int:
        return sum(row.verdict.verdict == verdict for row in self.rows)


def plan(exports: Iterable[Export], targets: Sequence[Target], *, everything: bool = False) -> list[Row]:
    """The cells to fill: the highest version of each model everywhere, older ones where versions can be asked."""
    rows = []
    targets = sorted(targets, key=lambda t: FIRST.index(t.name) if t.name in FIRST else len(FIRST))
    for _, group in groupby(exports, key=lambda e: e.model):
        versions = sorted(group, key=lambda e: e.version)
        for export in reversed(versions):
            newest = export is versions[-1]
            rows += [
                Row(export, t.name, t.variant, t.precision, looped=t.batch == "static")
                for t in targets
                if newest or everything or t.name in VERSIONED_TARGETS
            ]
    return rows


class Comparison:
    """Fills rows, model by model. ``tell`` gets progress, piece by piece; ``why_skip`` may know a reason beforehand.

    Verdicts are found on all lanes at once. Times are taken when nothing else runs.
    """

    def __init__(
        self,
        lanes: Lanes,
        *,
        budget: Budget,
        tell: Callable[[str], None],
        cold_cache: ColdCache | None = None,
        proven: Proven | None = None,
        why_skip: Callable[[Row], str | None] = lambda row: None,
    ) -> None:
        self._lanes, self._budget, self._tell, self._cold_cache = lanes, budget, tell, cold_cache
        self._why_skip, self._proven = why_skip, proven
        self.proven_before = 0  # cells that were asked fewer rows because they had passed
        self._spent: dict[str, float] = {}
        self._stopped = False
        self.seconds = dict.fromkeys(("verdicts", "latency", "cold starts"), 0.0)  # where the time went

    def run(self, rows: Sequence[Row]) -> Outcome:
        outcome = Outcome(list(rows))
        for model, group in groupby(outcome.rows, key=lambda r: r.export.model):
            cells = list(group)
            newest = max(row.export.version for row in cells)
            self._tell(f"{model}: ")
            with self._taking("verdicts"):
                self._judge_all(cells)
                alive = [row for row in cells if row.first_ms is not None]
                outcome.shifts += self._shifts([row for row in alive if row.export.version != newest], outcome.rows)
            if self._budget.steady:
                with self._taking("latency"):
                    self._time([row for row in alive if row.export.version == newest])
            self._tell("timed\n" if self._budget.steady else "done\n")
            for row in alive:
                self.close(row)
        if self._proven:
            self._proven.save()
        with self._taking("cold starts"):
            self._cold_starts(outcome.rows)
        return outcome

    @contextlib.contextmanager
    def _taking(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def _judge_all(self, cells: Sequence[Row]) -> None:
        """The cells of each lane one after another, the lanes side by side."""
        lanes: dict[Guard, list[Row]] = {}
        for row in cells:
            lanes.setdefault(self._lanes.of(row.target), []).append(row)

        def judge(rows: list[Row]) -> None:
            for row in rows:
                if self._stopped:
                    return
                self.judge(row)
                mark = "✓" if row.verdict.verdict == "pass" else row.verdict.verdict
                self._tell(f"v{row.export.version} {row.target} {mark}, ")

        with ThreadPoolExecutor(len(lanes)) as pool:
            working = [pool.submit(judge, rows) for rows in lanes.values()]
            try:
                for lane in working:
                    lane.result()
            except BaseException:  # Ctrl-C: the threads wait for processes that would go on
                self._stopped = True
                self._lanes.kill()
                raise

    def judge(self, row: Row) -> None:
        """Open the row's cell, ask once, and give the verdict; the session stays open."""
        try:
            if reason := (
                self._call(row, "unsupported", row.export, row.signature)
                or self._why_skip(row)
                or self._call(row, "unavailable")
            ):
                row.verdict = Verdict("skipped", reason)
                return
            row.first_ms = self._call(row, "first", row.export, row.signature)
            row.facts = self._call(row, "facts", row.export, row.signature)
            row.verdict = self._verify(row)
            if row.verdict.verdict == "fail" and (known := self._call(row, "known_fault", row.export)):
                row.verdict = replace(row.verdict, verdict="info", reason=f"{known}; {row.verdict.reason}", next="")
            row.nonfinite = self._attempt(row, "nonfinite", row.export, row.signature)
        except TargetError as error:
            row.first_ms = None
            row.verdict = Verdict("fail", str(error), _remedy(error))

    def _verify(self, row: Row) -> Verdict:
        artefact, proven = _artefact(row), self._proven
        before = proven is not None and proven.has(row.target, artefact)
        self.proven_before += before
        seconds = self._budget.again if before else self._budget.evidence
        verdict = self._call(row, "verify", row.export, row.signature, seconds)
        if proven is not None and verdict.verdict == "pass":
            proven.add(row.target, artefact)
        return verdict

    def close(self, row: Row) -> None:
        self._attempt(row, "close", row.export)

    def _time(self, rows: Sequence[Row]) -> None:
        """Steady latency: warm up, then round-robin blocks, one request at a time."""
        calls: dict[str, int] = {}
        seconds: dict[str, float] = {}
        for row in rows:
            warm = self._attempt(row, "steady", row.export, row.signature, WARM_UP_CALLS, 0)
            if warm is not None:
                each = max(float(np.median(warm.seconds)), 1e-6)
                calls[row.key] = int(np.clip(self._budget.block / each, 1, 100))
                seconds[row.key] = each * calls[row.key]
        for turn in range(1, ROUNDS + 1):
            for row in rows:
                if row.key not in calls or 3 * seconds[row.key] > self._left(row):
                    continue  # too slow for its budget: fewer samples, and the row says how many
                if block := self._attempt(row, "steady", row.export, row.signature, calls[row.key], turn):
                    row.blocks.append(block)

    def _shifts(self, rows: Sequence[Row], all_rows: Sequence[Row]) -> list[tuple[str, str, int, int, VersionShift]]:
        found = []
        for row in rows:
            if row.target not in VERSIONED_TARGETS:
                continue
            new = max((r.export for r in all_rows if r.export.model == row.export.model), key=lambda e: e.version)
            if shift := self._attempt(row, "shift", row.export, new, row.signature):
                found.append((row.export.model, row.target, row.export.version, new.version, shift))
        return found

    def _cold_starts(self, rows: Sequence[Row]) -> None:
        """Once per runtime, in a process, page or server of its own; kept, because it is slow to measure."""
        if self._cold_cache is None:
            return
        models = {row.export.model for row in rows}
        model = COLD_MODEL if COLD_MODEL in models else min(models, default=None)
        newest = max((row.export.version for row in rows if row.export.model == model), default=0)
        for row in rows:
            if row.export.model != model or row.export.version != newest or row.first_ms is None:
                continue
            artefact = _artefact(row)
            row.cold_ms = self._cold_cache.get(row.target, artefact)
            if row.cold_ms is None:
                self._tell(f"cold start of {row.target}: ")
                row.cold_ms = self._cold(row)
                self._tell("not measurable\n" if row.cold_ms is None else f"{row.cold_ms:.0f} ms\n")
                if row.cold_ms is not None:
                    with contextlib.suppress(ArtifactError):  # a cache that cannot be written costs time, not the run
                        self._cold_cache.put(row.target, artefact, row.cold_ms)

    def _cold(self, row: Row) -> float | None:
        try:
            seconds = self._lanes.of(row.target).call(
                "cold", row.target, row.export, row.signature, timeout=self._budget.cold
            )
        except TargetError as error:
            print(f"cold start of {row.target}: {error}", file=sys.stderr)
            return None
        return None if seconds is None else seconds * 1e3

    def _attempt(self, row: Row, method: str, *arguments: Any) -> Any:
        """As ``_call``, but what fails here turns a passing row into a failing one instead of ending its cell."""
        try:
            return self._call(row, method, *arguments)
        except TargetError as error:
            if row.verdict.verdict != "fail":
                row.verdict = replace(
                    row.verdict, verdict="fail", reason=f"judged well, then: {error}", next=_remedy(error)
                )
            return None

    def _call(self, row: Row, method: str, *arguments: Any) -> Any:
        """One call over there, charged to the row's budget."""
        start = time.perf_counter()
        try:
            return self._lanes.of(row.target).call(method, row.target, *arguments, timeout=max(self._left(row), 1.0))
        finally:
            self._spent[row.key] = self._spent.get(row.key, 0.0) + time.perf_counter() - start

    def _left(self, row: Row) -> float:
        return self._budget.cell - self._spent.get(row.key, 0.0)


def _artefact(row: Row) -> str:
    """What a row's figures and answers belong to: the export, the file made of it, and what runs it."""
    return f"{row.export.sha256}/{row.facts.get('artifact_sha256')}/{row.facts.get('runtime_version')}"


def _remedy(error: TargetError) -> str:
    if isinstance(error, TargetHung):
        return "Run it alone with --targets to see whether it always hangs; look at the machine's load."
    if isinstance(error, TargetCrashed):
        return "Run it alone with --targets; when it crashes again, rebuild its artefact or report it to the runtime."
    return (
        "Follow the reason: a service that is down, `make status`; an artefact that is missing, `make deploy-all`; "
        "an operator that the runtime refuses, another runtime of this table or other layers."
    )
