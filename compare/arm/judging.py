"""Whether two machines gave the same answers: a quantized file the same bits, a float one within a tolerance."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.distance import smallest_tolerance
from edge.answers import decode_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Told = Mapping[str, Any]
    Answers = dict[str, dict[str, NDArray]]  # kind → tensor → rows


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Between what ARM and this machine answered to the same rows."""

    rows: int
    differing: int  # rows with any other bit, in the file's own tensors or in raw units
    steps: int  # most steps of the file's integers; 0 for a float file
    error: float  # the tolerance, absolute or relative, that the answers in raw units would need

    @property
    def same_bits(self) -> bool:
        return self.differing == 0


def difference(arm: Told, here: Told) -> Difference:
    """Of two entries of ``answers``. Raises ValueError when they are not answers of one file to the same rows."""
    for field in ("sha256", "inputs_sha256"):
        if arm[field] != here[field]:
            raise ValueError(f"the two machines were not asked the same: {field} {arm[field]} and {here[field]}")
    raw = [read_answers(told) for told in (arm, here)]
    own = [read_answers(told, "raw_outputs") for told in (arm, here)]
    rows = differing = steps = 0
    error = 0.0
    for kind, expected in raw[1].items():
        other = np.zeros(len(next(iter(expected.values()))), bool)
        for name in expected:
            (arm_raw, here_raw), (arm_own, here_own) = ([a[kind][name] for a in answers] for answers in (raw, own))
            other |= _other_rows(arm_raw, here_raw) | _other_rows(arm_own, here_own)
            error = max(error, smallest_tolerance(arm_raw, here_raw))
            steps = max(steps, _steps(arm_own, here_own))
        rows += len(other)
        differing += int(other.sum())
    return Difference(rows=rows, differing=differing, steps=steps, error=error)


def read_answers(told: Told, field: str = "outputs") -> Answers:
    return {
        kind: {name: decode_tensor(encoded) for name, encoded in tensors.items()}
        for kind, tensors in told[field].items()
    }


def _other_rows(value: NDArray, expected: NDArray) -> NDArray:
    """[N] True where any bit of a row differs. Raises ValueError for another shape or dtype."""
    if value.shape != expected.shape or value.dtype != expected.dtype:
        raise ValueError(f"ARM answers {value.dtype} {value.shape}, this machine {expected.dtype} {expected.shape}")
    size = len(value)
    bits = [np.ascontiguousarray(rows).view(np.uint8).reshape(size, -1) for rows in (value, expected)]
    return (bits[0] != bits[1]).any(axis=1)


def _steps(value: NDArray, expected: NDArray) -> int:
    if expected.dtype.kind not in "iu":
        return 0
    return int(np.abs(value.astype(np.int64) - expected.astype(np.int64)).max(initial=0))


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a file is held to: steps of its integers, or for a float file an error. ``reason``: why it is not 0 steps."""

    steps: int | None
    error: float | None
    reason: str

    def passes(self, found: Difference) -> bool:
        if self.steps is not None:
            return found.steps <= self.steps and (self.steps > 0 or found.same_bits)
        return found.error <= (self.error or 0.0)


def limit_for(arch: str, model: str, variant: str) -> Limit:
    """From limits.toml: the first of its exceptions that fits, else the variant's own."""
    limits = _limits()
    own = limits["float32" if variant in limits["float"] else "int8"]
    for exception in limits.get("exception", ()):
        if (exception["arch"], exception["variant"]) == (arch, variant) and model in exception["models"]:
            return Limit(steps=exception["steps"], error=None, reason=exception["reason"])
    return Limit(steps=own.get("steps"), error=own.get("error"), reason="")


@cache
def _limits() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("limits.toml").read_text())
