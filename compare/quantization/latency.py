"""Every way to call a model, timed in turn within one run, so that a busy second falls on all of them alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.quantization.lite_bench import NONE, XNNPACK, Setting
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from compare.bench import Block
    from compare.guard import Guard
    from compare.quantization.files import LiteFile
    from export.bundle import Export

TIMEOUT = 120.0  # seconds of one block, the opening of the model included


@dataclass
class Contender:
    """One way to call one model, and the blocks that it has answered. ``error``: it fell out, and why."""

    variant: str | None  # None: TensorFlow
    setting: Setting | None
    threads: int | None  # None: TensorFlow's own choice
    ask: Callable[[float], Block]
    blocks: list[Block] = field(default_factory=list)
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        samples = np.concatenate([b.seconds for b in self.blocks]) * 1e6 if self.blocks else np.empty(0)
        spent = sum(b.cpu_seconds or 0.0 for b in self.blocks)
        p50, p95 = (float(v) for v in np.percentile(samples, (50, 95))) if samples.size else (None, None)
        return {
            "call": self.setting.call if self.setting else "predict",
            "delegate": self.setting.delegate if self.setting else None,
            "threads": self.threads,
            "p50_us": p50,
            "rounds_us": [float(np.median(block.seconds)) * 1e6 for block in self.blocks],
            "p95_us": p95,
            "cpu_us": spent / samples.size * 1e6 if samples.size else None,
            "n": int(samples.size),
            "error": self.error,
        }


def contenders(files: Sequence[LiteFile], guard: Guard, threads: Sequence[int]) -> list[Contender]:
    """The bare ``invoke()`` per delegate and thread count, and ``predict`` as a caller has it."""
    settings = [Setting("invoke", delegate, n) for delegate in (XNNPACK, NONE) for n in threads]
    settings.append(Setting("predict", XNNPACK, 1))
    return [
        Contender(file.variant, setting, setting.threads, partial(_ask_lite, guard, file.export, file.variant, setting))
        for setting in settings  # variants that are compared with each other follow upon each other
        for file in files
        if not file.error
    ]


def tensorflow_contender(export: Export, guard: Guard, threads: int | None) -> Contender:
    return Contender(None, None, threads, lambda seconds: guard.call("steady", export, seconds, timeout=TIMEOUT))


def _ask_lite(guard: Guard, export: Export, variant: str, setting: Setting, seconds: float) -> Block:
    return guard.call("steady", export, variant, setting, seconds, timeout=TIMEOUT)


def measure(running: Sequence[Contender], *, rounds: int, seconds: float) -> None:
    """One block of each in turn, ``rounds`` times, each for about ``seconds``. One that fails falls out with its reason."""
    for _ in range(rounds):
        for contender in running:
            if contender.error is None:
                try:
                    contender.blocks.append(contender.ask(seconds))
                except TargetError as error:
                    contender.error, contender.blocks = str(error), []
