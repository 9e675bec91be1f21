"""What users notice when something happens: a version published, a roll-back, a killed server, each under a steady load.

    python -m loadtest.events --model mlp

On a private deployment (``private_deployment.py``), by REST and by gRPC, in open loop:

========  =============================================================================================================
publish   requests ask the newest version, which changes while they do; none may fail
rollback  requests ask the label stable, which is promoted to the new version and rolled back again; none may fail
kill      SIGKILL, and the supervisor starts the server again; requests fail meanwhile, and are counted
========  =============================================================================================================

Exit code 0: nothing failed that must not; 1: something did, or a figure is not valid.
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compare import units
from deploy.columns import columns
from loadtest.generator import Generator, Plan, Stage
from loadtest.histogram import latency_ms
from loadtest.private_deployment import private_deployment
from loadtest.results import write_events
from loadtest.search import positive
from models.errors import interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loadtest.generator import Outcome
    from loadtest.private_deployment import PrivateDeployment

TARGETS = ("serving-rest", "serving-grpc")
RATE = 50.0  # per second: a server that answers within a millisecond has time left, and so has the generator
LATE_SHARE = 0.05  # publishing shares the machine with the generator, which a deployment's own machine would not
QUIET_S = 2.0  # before the first thing happens and between two, so that each is seen alone


@dataclass
class Marks:
    """What happened, and when (time.time())."""

    said: list[tuple[float, str]] = field(default_factory=list)

    def add(self, what: str) -> None:
        self.said.append((time.time(), what))


@dataclass(frozen=True)
class Event:
    """``seconds`` of the schedule; ``allowed_failed`` None: failures are counted and shown."""

    name: str
    seconds: float
    allowed_failed: int | None
    happen: Callable[[PrivateDeployment, Marks], None]
    label: str | None = None


def _publish(deployment: PrivateDeployment, marks: Marks) -> None:
    version = deployment.publish()
    marks.add(f"version {version} published")
    deployment.wait_available()
    marks.add(f"version {version} answers")


def _roll_back(deployment: PrivateDeployment, marks: Marks) -> None:
    move = deployment.promote()
    marks.add(f"stable promoted, {move.before} → {move.after}")
    _quiet()
    move = deployment.rollback()
    marks.add(f"stable rolled back, {move.before} → {move.after}")


def _kill(deployment: PrivateDeployment, marks: Marks) -> None:
    marks.add("server killed")
    deployment.kill()
    deployment.wait_healthy()
    marks.add("server answers again")


def _quiet() -> None:
    threading.Event().wait(QUIET_S)


EVENTS = (
    Event("publish", 8.0, 0, _publish),
    Event("rollback", 8.0, 0, _roll_back, label="stable"),
    Event("kill", 12.0, None, _kill),
)


def run_event(
    generator: Generator, deployment: PrivateDeployment, event: Event, target: str, *, rate: float = RATE
) -> dict[str, Any]:
    """One event under load, as ``load-events.schema.json`` has it."""
    marks = Marks()

    def during() -> None:
        _quiet()
        event.happen(deployment, marks)

    load = Plan(
        target=target,
        model=deployment.model,
        loop="open",
        stages=(Stage(seconds=event.seconds, rate=rate),),
        address=deployment.addresses[target],
        label=event.label,
        late_share=LATE_SHARE,
    )
    return as_row(event, generator.run(load, during=during), marks)


def as_row(event: Event, outcome: Outcome, marks: Marks) -> dict[str, Any]:
    last_at, last = marks.said[-1]
    over = last_at - outcome.started > event.seconds
    late = f"the load was over before this was: {last}; is the machine very busy? Run it again"
    return {
        "model": outcome.plan.model,
        "target": outcome.plan.target,
        "event": event.name,
        "rate": outcome.plan.rate,
        "marks": [{"at_s": at - outcome.started, "what": what} for at, what in marks.said],
        "sent": outcome.sent,
        "answered": outcome.answered,
        "failed": outcome.failed,
        "allowed_failed": event.allowed_failed,
        "latency_ms": latency_ms(outcome.latency),
        "invalid": late if over else outcome.invalid,
        "errors": outcome.errors,
        "timeline": outcome.timeline,
    }


def broken(row: dict[str, Any]) -> str:
    """Why a row is not as it must be, empty when it is."""
    if row["allowed_failed"] is not None and row["failed"] > row["allowed_failed"]:
        return f"{row['failed']} requests failed: {row['errors'][0]['message']}"
    return row["invalid"] or ""


def run_events(model: str, *, rate: float = RATE) -> list[dict[str, Any]]:
    """All events on all targets; the generator is started outside of the private deployment's environment."""
    rows = []
    with Generator() as generator, private_deployment(model) as deployment:
        for target in TARGETS:
            for event in EVENTS:
                print(f"{event.name} under {rate:g}/s on {target} for {event.seconds:g} s", flush=True)
                rows.append(run_event(generator, deployment, event, target, rate=rate))
                for mark in rows[-1]["marks"]:
                    print(f"  {mark['at_s']:5.2f} s  {mark['what']}", flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    cells = [("event", "target", "requests", "failed", "may fail", "failing", "p50", "p99", "max", "verdict")]
    for row in rows:
        allowed = "any" if row["allowed_failed"] is None else str(row["allowed_failed"])
        times = (units.milliseconds(row["latency_ms"][name]) for name in ("p50", "p99", "max"))
        asked = (row["event"], row["target"], str(row["sent"]), str(row["failed"]), allowed)
        cells.append((*asked, failing(row), *times, broken(row) or "fine"))
    return columns(cells)


def failing(row: dict[str, Any]) -> str:
    """From when to when requests were due that failed, "1.8–7.5 s" of the schedule; a gRPC client waits before it tries again."""
    bins = [number for number, one in enumerate(row["timeline"]) if one["failed"]]
    if not bins:
        return "–"
    after = row["timeline"][bins[-1] + 1 :]
    end = f"{after[0]['at_s']:g} s" if after else "the end"
    return f"{row['timeline'][bins[0]]['at_s']:g}–{end}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.events", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mlp", help="default mlp")
    parser.add_argument("--rate", default=f"{RATE:g}", help=f"requests per second; default {RATE:g}")
    options = parser.parse_args(argv)
    rows = run_events(options.model, rate=positive("--rate", options.rate, "requests per second"))
    path = write_events(rows)
    print(f"\n{table(rows)}\n\nThe timelines are in {path}")
    return 1 if any(map(broken, rows)) else 0


if __name__ == "__main__":
    interruptible()
    run_cli(main)
