"""Bench: opens targets and asks them, in whichever process it lives. ``guard.py`` puts it into one that may be killed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compare.cold import fixed_batch, one_row
from compare.cpu_time import cpu_seconds
from compare.nonfinite import answers_to_nonfinite
from compare.shift import version_shift
from compare.target import find_target
from compare.verdict import Verdict, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from compare.shift import VersionShift
    from compare.target import Session, Target
    from export.bundle import Export


@dataclass(frozen=True)
class Block:
    """Some single requests in a row, one at a time: their seconds, and the runtime's CPU seconds where it can be had."""

    seconds: NDArray
    cpu_seconds: float | None


class Bench:
    """Sessions by (target, export); opened when first needed, kept until closed."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, Export], Session] = {}
        self._targets: dict[str, Target] = {}
        self._clocks: dict[tuple[str, Export], Callable[[], float | None]] = {}
        self._exit = contextlib.ExitStack()

    def unsupported(self, name: str, export: Export, signature: str) -> str | None:
        return find_target(name).unsupported(export, signature)

    def unavailable(self, name: str) -> str | None:
        return find_target(name).unavailable()

    def known_fault(self, name: str, export: Export) -> str | None:
        return find_target(name).known_fault(export)

    def first(self, name: str, export: Export, signature: str) -> float:
        """Open a session and ask once: milliseconds."""
        target = self._prepared(name)
        row = one_row(export, signature)
        start = time.perf_counter()
        self._session(target.name, export, signature).predict(row)
        return (time.perf_counter() - start) * 1e3

    def verify(self, name: str, export: Export, signature: str, seconds: float) -> Verdict:
        session = self._session(name, export, signature)
        return verify(
            session.predict,
            export.evidence.cases(signature),
            export.spec,
            precision=find_target(name).precision,
            fixed_batch=fixed_batch(export),
            seconds=seconds,
        )

    def steady(self, name: str, export: Export, signature: str, calls: int, turn: int) -> Block:
        """One block of single requests; ``turn`` chooses the row, so that blocks do not all ask the same."""
        reopened = (name, export) not in self._sessions
        session = self._session(name, export, signature)
        row = one_row(export, signature, turn)
        if reopened:  # another runtime took this process down; the first answer after that is no steady one
            session.predict(row)
        if reopened or (name, export) not in self._clocks:
            self._clocks[name, export] = self._cpu_clock(name, session)  # to find a server's process takes a while
        clock = self._clocks[name, export]
        before = clock()
        seconds = session.latencies(row, calls)
        after = clock()
        return Block(seconds, after - before if before is not None and after is not None else None)

    def facts(self, name: str, export: Export, signature: str) -> dict[str, object]:
        facts = self._session(name, export, signature).facts()
        if find_target(name).isolation == "process":
            facts["rss_bytes"] = None  # this process holds other runtimes too, so its memory is no figure of one
        return facts

    def nonfinite(self, name: str, export: Export, signature: str) -> dict[str, str] | None:
        return answers_to_nonfinite(self._session(name, export, signature).predict, one_row(export, signature))

    def shift(self, name: str, old: Export, new: Export, signature: str) -> VersionShift | None:
        """What changes from ``old`` to ``new`` on the newer one's labelled rows; None without such rows."""
        case, spec = new.evidence.case(signature, "test"), new.spec
        if case is None or case.labels is None or spec.decision is None or spec.metric is None:
            return None
        before, after = (
            self._session(name, export, signature).predict(case.inputs)[spec.decision.output] for export in (old, new)
        )
        return version_shift(before, after, case.labels, spec)

    def cold(self, name: str, export: Export, signature: str) -> float | None:
        return find_target(name).cold_start(export, one_row(export, signature))

    def bring(self, path: Path, name: str, root: Path, inputs: Path | None) -> Export:
        """A user's model as an export; here, because loading it may hang or crash, and TensorFlow stays loaded."""
        from export.bring import bring

        return bring(path, name=name, root=root, inputs_npz=inputs)

    def close(self, name: str, export: Export) -> None:
        self._clocks.pop((name, export), None)
        if session := self._sessions.pop((name, export), None):
            session.close()

    def close_all(self) -> None:
        while self._sessions:
            _, session = self._sessions.popitem()
            with contextlib.suppress(Exception):  # a broken session must not keep the others open
                session.close()
        self._exit.close()

    def _session(self, name: str, export: Export, signature: str) -> Session:
        target = self._prepared(name)
        if (name, export) not in self._sessions:
            self._sessions[name, export] = target.open(export, signature)
        return self._sessions[name, export]

    def _prepared(self, name: str) -> Target:
        if name not in self._targets:
            target = find_target(name)
            target.prepare()
            self._targets[name] = self._exit.enter_context(target)
        return self._targets[name]

    def _cpu_clock(self, name: str, session: Session) -> Callable[[], float | None]:
        """CPU seconds of whoever answers: the server's processes, this one, or nobody knows (a page)."""
        if isinstance(pid := session.facts().get("pid"), int):
            return lambda: cpu_seconds(pid)
        return time.process_time if find_target(name).isolation == "process" else lambda: None
