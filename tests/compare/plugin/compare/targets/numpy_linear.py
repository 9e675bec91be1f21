"""Targets that a folder on PYTHONPATH adds: the linear model in NumPy, and runtimes that misbehave for real."""

from __future__ import annotations

import os
import signal
import threading
import time

from compare.target import Session, Target
from models.errors import TargetError
from tests.compare.cases import predict


class Linear(Session):
    def __init__(self, fault: str) -> None:
        self.fault = fault

    def predict(self, inputs):
        if self.fault == "hang":
            threading.Event().wait()
        if self.fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == "refuse":
            raise TargetError("the runtime refused the request; send fewer rows")
        if self.fault == "bug":
            raise RuntimeError("an error that no target should let out")
        if self.fault == "nudge":
            return {"probabilities": predict(inputs)["probabilities"] + 1e-3}
        if self.fault == "slow":
            time.sleep(0.002 * len(inputs["point"]))  # of every row
        return predict(inputs)

    def facts(self):
        return {"artifact_bytes": 96, "artifact_sha256": "0" * 64, "runtime_version": "numpy linear"}


class NumpyLinear(Target):
    def __init__(self, fault: str = "", *, precision="float32", reason: str | None = None) -> None:
        self.name = f"numpy-{fault or precision}"
        self.variant = self.precision = precision
        self.fault, self.reason = fault, reason

    def unsupported(self, export, signature):
        return self.reason

    def open(self, export, signature="serving_default"):
        return Linear(self.fault)


TARGETS = [
    NumpyLinear(),
    NumpyLinear(precision="int8"),
    *(NumpyLinear(fault) for fault in ("nudge", "refuse", "bug", "crash", "hang", "slow")),
    NumpyLinear("absent", reason="this runtime <b>never</b> runs & says so"),
]
