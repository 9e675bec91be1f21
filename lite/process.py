"""Worker: the process that converts (lite/worker.py), seen from the one that asks it. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

from models.artifacts import REPOSITORY
from models.errors import ArtifactError

LIMIT_S = 240  # from one sign of life of a conversion to the next; the largest seen here takes 10 s


class ConversionFailed(Exception):
    """The converter's own reason in plain words; goes into the json. ``may_pass``: the next build tries again."""

    def __init__(self, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


class Worker:
    """A worker process, started when first asked, and again after it crashed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__); what TensorFlow prints

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._log.close()

    def ask(self, request: dict[str, Any], name: str) -> dict[str, Any]:
        """Have one file converted; ``name`` is what progress and errors call it.

        Raises ConversionFailed; OSError when the worker could not write; ArtifactError when it was stopped from outside.
        """
        process = self._running()
        assert process.stdin
        line, late = "", False
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line, late = _next_line(process)
            while line and (progress := json.loads(line).get("progress")):
                print(f"lite: {name} {progress}", flush=True)
                line, late = _next_line(process)
        if not line:
            code = self._stop()
            if late:
                raise ConversionFailed(f"the TFLite converter was stopped after {LIMIT_S} s", may_pass=True)
            if code in (-signal.SIGINT, -signal.SIGTERM):
                raise ArtifactError(
                    f"the conversion of {name} was stopped from outside; run the command again to go on"
                )
            # SIGKILL comes from outside too: often from the kernel, when memory is short.
            reason = f"the TFLite converter crashed ({_ended_by(code)})"
            raise ConversionFailed(reason, may_pass=code == -signal.SIGKILL)
        answer = json.loads(line)
        if answer["errno"]:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        if answer["error"]:
            raise ConversionFailed(answer["error"])
        return answer

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lite.worker"],
                cwd=REPOSITORY,
                env={
                    **os.environ,
                    "TF_CPP_MIN_LOG_LEVEL": "2",
                    "CUDA_VISIBLE_DEVICES": "-1",
                    "TF_NUM_INTRAOP_THREADS": "1",  # there is a worker for each core
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        return self._process

    def _stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError):  # it died before it had read the last job
            process.stdin.close()  # the worker ends after the last line
        process.stdout.close()
        try:
            return process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _next_line(process: subprocess.Popen[str]) -> tuple[str, bool]:
    """What the worker says next, "" where it ended; and whether it ended because it took too long."""
    assert process.stdout
    timer = threading.Timer(LIMIT_S, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
        return line, not timer.is_alive()
    finally:
        timer.cancel()


def _ended_by(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
