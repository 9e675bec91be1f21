"""One row of the summary: everything about one model and version on one target, in the form of ``summary.schema.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.cold import fixed_batch
from compare.verdict import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from compare.bench import Block
    from export.bundle import Export


@dataclass
class Row:
    """Filled as the run goes on. Times in milliseconds."""

    export: Export
    target: str
    variant: str
    precision: str
    verdict: Verdict = field(default_factory=lambda: Verdict("skipped", "not reached: the run was stopped"))
    looped: bool = False  # the runtime takes one row at a time; the target loops
    cold_ms: float | None = None
    first_ms: float | None = None
    blocks: list[Block] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    nonfinite: dict[str, str] | None = None

    @property
    def signature(self) -> str:
        """The signature that callers ask, raw units: a user's own model may have another than serving_default."""
        return self.export.description.get("brought", {}).get("signature", "serving_default")

    @property
    def key(self) -> str:
        return f"{self.export.model}/{self.export.version}/{self.target}"

    @property
    def samples(self) -> NDArray:
        """Seconds of every steady request, in the order of the blocks."""
        return np.concatenate([b.seconds for b in self.blocks]) if self.blocks else np.empty(0)

    def kept_samples(self) -> dict[str, NDArray]:
        """For ``samples.npz``: the seconds, how many calls each block had, and each block's CPU seconds (NaN: not told)."""
        return {
            self.key: self.samples,
            f"{self.key}:calls": np.array([len(b.seconds) for b in self.blocks]),
            f"{self.key}:cpu_seconds": np.array(
                [np.nan if b.cpu_seconds is None else b.cpu_seconds for b in self.blocks]
            ),
        }

    @property
    def cpu_us(self) -> float | None:
        """CPU time per steady request, µs."""
        spent = [(b.cpu_seconds, len(b.seconds)) for b in self.blocks if b.cpu_seconds is not None]
        calls = sum(n for _, n in spent)
        return sum(s for s, _ in spent) / calls * 1e6 if calls else None

    def latency(self) -> list[dict[str, Any]]:
        samples = self.samples * 1e3
        if self.first_ms is None and not samples.size:
            return []
        p50, p95, p99 = (float(v) for v in np.percentile(samples, (50, 95, 99))) if samples.size else (None, None, None)
        return [
            {
                "batch": fixed_batch(self.export) or 1,
                "concurrency": 1,
                "cold_ms": self.cold_ms,
                "first_ms": self.first_ms,
                "p50_ms": p50,
                "p95_ms": p95,
                "p99_ms": p99,
                "n": int(samples.size),
                "repeat": len(self.blocks),
            }
        ]

    def to_json(self) -> dict[str, Any]:
        v = self.verdict
        looped = "looped: this runtime takes one row at a time" if self.looped and v.verdict in ("pass", "info") else ""
        return {
            "model": self.export.model,
            "version": self.export.version,
            "target": self.target,
            "variant": self.variant,
            "signature": self.signature,
            "precision": self.precision,
            "verdict": v.verdict,
            "reason": "; ".join(part for part in (v.reason, looped) if part),
            "next": v.next,
            "outputs": [{**vars(o), "batches": list(o.batches)} for o in v.outputs],
            "decision": v.decision
            and {"agreement": v.decision.agreement, "clear_agreement": v.decision.clear_agreement, "n": v.decision.n},
            "metric": v.metric and {"name": v.metric.name, "reference": v.metric.reference, "value": v.metric.value},
            "latency": self.latency(),
            "cpu_us": self.cpu_us,
            "rss_bytes": self.facts.get("rss_bytes"),
            "artifact_bytes": self.facts.get("artifact_bytes"),
            "artifact_sha256": self.facts.get("artifact_sha256"),
        }
