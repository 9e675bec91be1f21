"""Guard: a worker in a process of its own. A runtime that hangs or crashes costs its own row and nothing else."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import traceback
from typing import TYPE_CHECKING, Any, Protocol, Self

import psutil

from compare.bench import Bench
from compare.target import find_target
from export.bundle import Export
from models.errors import ExportOnceError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from types import TracebackType


class TargetHung(TargetError):
    """Cut off: no answer within the limit."""


class TargetCrashed(TargetError):
    """The process died, or an error escaped that no target should let out."""


class Worker(Protocol):
    """What lives over there; any of its methods can be called."""

    def close_all(self) -> None: ...


class Guard:
    """``call("verify", …)`` runs ``Bench.verify(…)`` over there. After a hang or a crash the next call starts afresh.

    ``make`` makes the worker, in its process: a class, or a ``functools.partial`` of one.
    """

    def __init__(self, make: Callable[[], Worker] = Bench) -> None:
        self._make = make
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._log = tempfile.NamedTemporaryFile("w+", prefix="compare-", suffix=".log", errors="replace")  # noqa: SIM115

    def call(self, method: str, *arguments: Any, timeout: float) -> Any:
        """Raises TargetHung after ``timeout`` seconds, TargetCrashed, or the error that the target itself raised."""
        pipe = self._connected()
        try:
            pipe.send((method, tuple(_bare(a) for a in arguments)))
            if not pipe.poll(timeout):
                self.stop(patience=0)
                raise TargetHung(f"no answer within {timeout:.0f} s")
            kind, value = pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise TargetCrashed(self._epitaph()) from None
        if kind == "refused":
            raise TargetError(value)
        if kind == "crashed":
            raise TargetCrashed(value)
        return value

    def let_go(self) -> None:
        """Idle, the process closes its sessions and leaves by itself."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def stop(self, *, patience: float = 5) -> None:
        """End the process and everything that it started (browsers, servers); after ``patience`` seconds by force."""
        self.let_go()
        process, self._process = self._process, None
        if process is None or process.pid is None:
            return
        family = _children(process.pid)
        process.join(patience)
        if process.is_alive():
            process.kill()
            process.join()
        _kill(family)

    def kill(self) -> None:
        """End the process and what it started at once, from any thread: a call that waits for it raises TargetCrashed."""
        if (process := self._process) is not None and process.pid is not None:
            family = _children(process.pid)
            process.kill()
            _kill(family)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._log.close()

    def _connected(self) -> Connection:
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self.stop()
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._log.name, self._make), name="compare-bench"
            )
            self._process.start()
            theirs.close()
        return self._pipe

    def _epitaph(self) -> str:
        """How the process died, and the last thing it said."""
        process = self._process
        code = None
        if process is not None:
            process.join(5)
            code = process.exitcode
        self.stop()
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = signal.Signals(-code).name
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return f"the runtime crashed ({how})" + (f": {lines[-1]}" if lines else "")


class Lanes:
    """Guards that work side by side: all that runs in pages in one process, the rest in another.

    A target always goes to the same guard, which keeps its sessions. One browser is enough for all pages, and only one
    of the two processes ever imports TensorFlow. A third lane, for graphics in software, gains nothing on two cores.
    """

    def __init__(self) -> None:
        self._guards = {"pages": Guard(), "processes": Guard()}

    def of(self, target: str) -> Guard:
        return self._guards["pages" if find_target(target).isolation == "page" else "processes"]

    def let_go(self) -> None:
        """They may close their sessions and end, while this process goes on; ``stop`` waits for them."""
        for guard in self._guards.values():
            guard.let_go()

    def kill(self) -> None:
        for guard in self._guards.values():
            guard.kill()

    def stop(self) -> None:
        """End both processes; the next call starts afresh, with the environment as it is then."""
        for guard in self._guards.values():
            guard.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for guard in self._guards.values():
            guard.__exit__(kind, error, trace)


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _bare(argument: Any) -> Any:
    """An Export without the evidence that it may have loaded already."""
    return Export(argument.root, argument.model, argument.version) if isinstance(argument, Export) else argument


def _serve(pipe: Connection, log: str, make: Callable[[], Worker]) -> None:
    """Answer calls until the other end closes. Ctrl-C is the parent's to handle."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(log, "w") as file:  # a runtime's chatter, and the last words of a crash
        os.dup2(file.fileno(), 2)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    worker = make()
    known: dict[Export, Export] = {}  # one object per export, so that its evidence is read once
    while True:
        try:
            method, arguments = pipe.recv()
            arguments = [known.setdefault(a, a) if isinstance(a, Export) else a for a in arguments]
        except (EOFError, OSError):
            break
        try:
            result = ("done", getattr(worker, method)(*arguments))
        except ExportOnceError as error:
            result = ("refused", str(error))
        except Exception as error:  # whatever a runtime throws becomes a row, not the end of the run
            traceback.print_exc()
            result = ("crashed", f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
        try:
            pipe.send(result)
        except OSError:
            break
    worker.close_all()
