"""What a cell came to: the workers' parts as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compare.environment import cores
from loadtest.histogram import encoded, latency_ms, merged, percentiles
from loadtest.samples import bin_seconds

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

    from loadtest.plan import Plan

ERRORS = 10  # different ones that a row names
FEW = 2  # late requests are any machine's hiccup, however short the run


@dataclass
class Outcome:
    """``latency`` counts from the intended start (open loop) or the sending (closed), ``service`` from the actual sending; µs.

    Only good answers are in them; ``failed`` holds refusals, answers that did not come, and the ``wrong`` ones of those
    ``checked``. ``seconds`` from the schedule's start (``started``, time.time()) to its end, or to the last answer.
    """

    plan: Plan
    latency: HdrHistogram
    service: HdrHistogram
    sent: int
    answered: int
    failed: int
    wrong: int
    checked: int
    late: int
    late_max_ms: float
    seconds: float
    started: float
    errors: list[dict[str, Any]] = field(default_factory=list)
    timeline: list[dict[str, Any]] = field(default_factory=list)
    generator: dict[str, Any] = field(default_factory=dict)
    invalid: str | None = None
    samples: list[list[float]] | None = None  # raw latencies of each worker, seconds, where the plan keeps them

    @classmethod
    def of(cls, plan: Plan, parts: list[dict[str, Any]], *, started: float) -> Outcome:
        total: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        for part in parts:
            total.update({key: part[key] for key in ("sent", "answered", "wrong", "checked", "late", "unsent")})
            errors.update(part["errors"])
        cpu, late_max = (max(part[key] for part in parts) for key in ("cpu", "late_max_ms"))
        return cls(
            plan=plan,
            latency=merged(part["latency"] for part in parts),
            service=merged(part["service"] for part in parts),
            sent=total["sent"],
            answered=total["answered"],
            failed=total["sent"] - total["answered"],
            wrong=total["wrong"],
            checked=total["checked"],
            late=total["late"] + total["unsent"],
            late_max_ms=late_max,
            seconds=max(part["seconds"] for part in parts),
            started=started,
            errors=[{"message": message, "count": count} for message, count in errors.most_common(ERRORS)],
            timeline=_timeline(plan, parts),
            generator={
                "cpu": cpu,
                "realtime": all(part["realtime"] for part in parts),
                "cpu_us": sum(part["cpu_us"] * part["sent"] for part in parts) / max(1, total["sent"]),
                "overhead_us": max(part["overhead_us"] for part in parts),
                "workers": len(parts),
            },
            invalid=_invalid(plan, total, late_max=late_max, cpu=[part["cpu"] for part in parts]),
            samples=[part["samples"] for part in parts] if plan.keep_samples else None,
        )

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.answered / self.seconds

    def row(self) -> dict[str, Any]:
        """The cell as ``load.schema.json`` has it, without what only the caller knows (version, phases, server)."""
        return {
            "model": self.plan.model,
            "target": self.plan.target,
            "loop": self.plan.loop,
            "arrival": self.plan.arrival if self.plan.loop == "open" else None,
            "rate_asked": self.plan.rate,
            "users": self.plan.users or None,
            "seconds": self.seconds,
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "wrong": self.wrong,
            "checked": self.checked,
            "late": self.late,
            "late_max_ms": self.late_max_ms,
            "rate": self.rate,
            "latency_ms": latency_ms(self.latency),
            "service_ms": latency_ms(self.service),
            "histogram": encoded(self.latency),
            "generator": self.generator,
            "invalid": self.invalid,
            "errors": self.errors,
            "timeline": self.timeline,
        }


def _timeline(plan: Plan, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bins: dict[int, list[list[Any]]] = {}
    for part in parts:
        for number, *figures in part["bins"]:
            bins.setdefault(number, []).append(figures)
    rows = []
    for number, figures in sorted(bins.items()):
        sent, answered = sum(f[0] for f in figures), sum(f[1] for f in figures)
        latency = merged(f[2] for f in figures)
        p50, p99 = percentiles(latency, (50, 99))
        rows.append(
            {
                "at_s": number * bin_seconds(plan.duration),
                "sent": sent,
                "answered": answered,
                "failed": sent - answered,
                "p50_ms": p50,
                "p99_ms": p99,
                "max_ms": latency.get_max_value() / 1e3 if answered else None,
            }
        )
    return rows


def _invalid(plan: Plan, total: Counter[str], *, late_max: float, cpu: list[float]) -> str | None:
    """Why the generator, and not the server, was measured; None when it kept its schedule and had CPU time left.

    ``cpu`` is each worker's share of a core. Together they leave one core to the server, where there are several.
    """
    sent, late, unsent = total["sent"], total["late"], total["unsent"]
    crowded = sum(cpu) > plan.cpu_share * max(1, cores() - 1)
    reasons = []
    if unsent:
        reasons.append(f"{unsent} of {sent + unsent} requests were never sent, the schedule was so far behind")
    if late > max(FEW, plan.late_share * sent):
        reasons.append(
            f"{late} of {sent} requests left more than {plan.late_ms:g} ms late (the worst {late_max:.0f} ms)"
        )
    if max(cpu) > plan.cpu_share:
        reasons.append(f"a worker used {max(cpu):.0%} of a core in one second")
    elif crowded:
        reasons.append(
            f"{len(cpu)} workers used {sum(cpu):.0%} of a core, and the {cores()} cores are the server's too"
        )
    if not reasons:
        return None
    more = "" if crowded else "use more workers, "
    return f"the generator was measured, not the server: {'; '.join(reasons)}; ask for a lower rate, {more}or run it where nothing else runs"
