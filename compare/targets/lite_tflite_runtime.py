"""``lite-int8@tflite-runtime``: the int8 file on the runtime of 32-bit ARM, in an environment and a process of its own.

tflite-runtime 2.14 needs Python 3.11 and NumPy 1. It has no XNNPACK for int8, so it is many times slower than
ai-edge-litert; what counts here is that a device with it gives the same answers. When it crashes, its own row fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

import psutil

from compare.lite_child import read_message, write_message
from compare.target import Session, Target
from compare.targets.lite import THREADS, current_file, unsupported_file
from deploy.environments import load_environments
from edge.errors import EdgeError
from edge.runtime import read_model
from models.artifacts import REPOSITORY
from models.errors import ArtifactError, TargetError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from export.bundle import Export

    Tensors = dict[str, NDArray]

RUNTIME = "tflite-runtime"
VARIANT = "int8"
ENVIRONMENT = next(e for e in load_environments() if e.name == f"edge/{RUNTIME}")


class Refused(TargetError):
    """The child's own sentence."""


class Child:
    """The process with the runtime imported. Raises TargetError when it does not start."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [ENVIRONMENT.interpreter, "-m", "compare.lite_child", RUNTIME],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        try:
            self.runtime: str = self._reply()[0]["ready"]
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, do: str, path: Path, inputs: Tensors | None = None, **arguments: object
    ) -> tuple[dict[str, Any], Tensors]:
        """Raises Refused with the child's reason, TargetError when it died."""
        assert self._process.stdin
        try:
            write_message(self._process.stdin, {"do": do, "path": str(path), **arguments}, inputs)
        except BrokenPipeError:
            raise self._died() from None
        return self._reply()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """It leaves when its input ends; one that hangs in the runtime is killed."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reply(self) -> tuple[dict[str, Any], Tensors]:
        assert self._process.stdout
        answer = read_message(self._process.stdout)
        if answer is None:
            raise self._died()
        if error := answer[0].get("error"):
            raise Refused(error)
        return answer

    def _died(self) -> TargetError:
        code = self._process.wait()
        self._log.seek(0)
        last = (self._log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return TargetError(f"{RUNTIME} crashed ({how}): {last}")


class TfliteRuntimeSession(Session):
    def __init__(self, child: Child, path: Path) -> None:
        self._child, self._path = child, path
        self._loaded, _ = child.ask("load", path, threads=THREADS)

    def predict(self, inputs: Tensors) -> Tensors:
        return self._child.ask("predict", self._path, inputs)[1]

    def latencies(self, inputs: Tensors, calls: int) -> NDArray:
        return self._child.ask("time", self._path, inputs, calls=calls)[1]["seconds"]

    def facts(self) -> dict[str, object]:
        return {
            "artifact_bytes": self._loaded["bytes"],
            "artifact_sha256": self._loaded["sha256"],
            "rss_bytes": psutil.Process(self._child.pid).memory_info().rss if self._child.is_alive() else None,
            "runtime_version": self._loaded["runtime"],
            "threads": self._loaded["threads"],
            "accelerator": "none: its XNNPACK takes no int8",
            "pid": self._child.pid,
        }

    def close(self) -> None:
        if self._child.is_alive():
            self._child.ask("close", self._path)


class TfliteRuntime(Target):
    name = f"lite-{VARIANT}@{RUNTIME}"
    variant = VARIANT
    precision = "int8"
    batch = "static"
    isolation = "shared"  # with the other models of this row: the process is not the comparison's

    def __init__(self) -> None:
        self._child: Child | None = None

    def unavailable(self) -> str | None:
        where = ENVIRONMENT.path.relative_to(ENVIRONMENT.root)
        if not ENVIRONMENT.interpreter.exists():
            if ENVIRONMENT.reason_file.is_file():  # the set-up's own
                return f"its environment {where} is missing: {ENVIRONMENT.reason_file.read_text().strip()}"
            return f"its environment {where} is missing; run `make setup`"
        if not any(ENVIRONMENT.path.glob("lib/python*/site-packages/tflite_runtime")):
            return f"there is no {RUNTIME} for this system, only for Linux"
        return None

    def unsupported(self, export: Export, signature: str) -> str | None:
        """The runtime is asked: it loads files with operators that it then cannot run, and says so at the first answer."""
        if reason := unsupported_file(export, VARIANT, signature):
            return reason
        if self.unavailable() or not export.lite(VARIANT).is_file():
            return None  # not for this model's sake
        path = _checked(export)
        try:
            with Child() as child:
                child.ask("load", path, threads=THREADS)
                child.ask("warm_up", path)
        except Refused as error:
            return str(error)
        return None

    def prepare(self) -> None:
        self._running()

    def open(self, export: Export, signature: str = "serving_default") -> Session:
        return TfliteRuntimeSession(self._running(), _checked(export))

    def cold_start(self, export: Export, inputs: Tensors) -> float | None:
        path = _checked(export)
        start = time.perf_counter()
        with Child() as child:
            child.ask("load", path, threads=THREADS)
            child.ask("predict", path, inputs)
            return time.perf_counter() - start

    def _running(self) -> Child:
        """The one child of all sessions; after a crash the next session gets another."""
        if reason := self.unavailable():
            raise TargetError(reason)
        if self._child and not self._child.is_alive():
            self._child.close()
            self._child = None
        self._child = self._child or Child()
        return self._child

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child:
            self._child.close()
            self._child = None


def _checked(export: Export) -> Path:
    """The file, whole and of this export, so that what the child refuses is the runtime's refusal. Raises ArtifactError."""
    path = current_file(export, VARIANT)
    try:
        read_model(path)
    except EdgeError as error:
        raise ArtifactError(str(error)) from error
    return path


TARGETS = [TfliteRuntime()]
