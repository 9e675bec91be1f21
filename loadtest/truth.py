"""Is the load generator to be believed? It is put on servers whose latencies are known (``delay_server.py``).

    python -m loadtest.truth

- Its percentiles beside those that the server made, in open and closed loop, of one mode and of two: 3 % may lie between.
- Its p50 beside that of wrk, which shares no line with it: 5 %.
- Coordinated omission: a server stands still for a second. A closed loop waits with it, so that one request of each user
  sees it and p99.9 does not; an open loop has requests due all the while, and p99.9 is the second that users would wait.

Exit code 0: the generator tells the truth; 1: a figure is off, which a busy machine may cause.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.columns import columns
from deploy.programs import WRK, missing
from export.bundle import find_exports
from loadtest.delay_server import MODEL, STALL_S, delay_server
from loadtest.generator import Generator, Plan, Stage
from loadtest.histogram import histogram, percentiles
from models.errors import TargetError, interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtest.delay_server import DelayServer
    from loadtest.generator import Outcome

PERCENTILES = (50, 90, 95, 99)
WITHIN = 0.03
WRK_WITHIN = 0.05
SECONDS = 4.0
RATE = 150.0  # per second in the open loop; 30 to 40 requests are then waiting at any time
USERS = 30  # of the closed loop and of wrk
# The stall: in a closed loop one request of each user waits, so more than 1,000 answers of a user hide it from p99.9.
STALL_SECONDS = {"open": 10.0, "closed": 26.0}
STALL_RATE = 120.0  # per second in the open loop: as many requests in its shorter time
STALL_AT_S = 3.0

KINDS_AND_LOOPS = [(kind, loop) for kind in ("normal", "bimodal") for loop in ("open", "closed")]
WRK_ROW = KINDS_AND_LOOPS.index(("normal", "closed"))


@dataclass(frozen=True)
class Percentiles:
    """One distribution in one loop, PERCENTILES in ms: what the server made, and what the generator found.

    ``served`` requests were answered, by the server's own count; ``requests`` by the generator's.
    """

    kind: str
    loop: str
    made: list[float]
    found: list[float]
    served: int
    requests: int

    @property
    def off(self) -> list[float]:
        """By how much the generator's figure is more (or less) than the server's, as a share of it."""
        return [found / made - 1 for made, found in zip(self.made, self.found, strict=True)]

    @property
    def true(self) -> bool:
        return self.served == self.requests and all(abs(off) <= WITHIN for off in self.off)


def plan(loop: str, server: DelayServer, *, seconds: float = SECONDS, rate: float = RATE, users: int = USERS) -> Plan:
    how: dict[str, Any] = {"users": users, "seconds": seconds}
    if loop == "open":
        how = {"stages": (Stage(seconds=seconds, rate=rate),)}
    return Plan(target="serving-rest", model=MODEL, loop=loop, address=server.address, **how)


def compare_percentiles(generator: Generator, kind: str, loop: str) -> Percentiles:
    """One run. Raises TargetError when a request failed: then there is nothing to compare."""
    with delay_server(kind) as server:
        outcome = _run(generator, plan(loop, server))
        held = server.held_ms(since=outcome.started)
    made = percentiles(histogram(held / 1e3), PERCENTILES)
    found = percentiles(outcome.latency, PERCENTILES)
    return Percentiles(kind, loop, _known(made), _known(found), len(held), outcome.answered)


def stalled(generator: Generator, loop: str) -> Outcome:
    """A run in which the server stands still for STALL_S."""
    with delay_server("steady") as server:

        def during() -> None:
            threading.Event().wait(STALL_AT_S)
            server.stall()

        load = plan(loop, server, seconds=STALL_SECONDS[loop], rate=STALL_RATE, users=1)
        return _run(generator, load, during=during)


def wrk_p50(kind: str) -> float:
    """The median in ms that wrk finds, with as many connections as the closed loop has users. Raises TargetError."""
    with delay_server(kind) as server, tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_POST % json.dumps(_body()))
        url = f"http://{server.address}/v1/models/{MODEL}:predict"
        command = ["wrk", "-t1", f"-c{USERS}", f"-d{SECONDS:g}s", "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 60)
    found = re.search(r"p50_us (\d+) errors (\d+)", done.stdout)
    if not found or found[2] != "0":
        raise TargetError(f"wrk measured nothing: {(done.stderr or done.stdout).strip()[-300:]}; is it wrk 4?")
    return int(found[1]) / 1e3


_POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = %s
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("p50_us %%d errors %%d\\n", latency:percentile(50),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def _body() -> str:
    case = find_exports(models=[MODEL])[-1].evidence.cases()[0]
    ((_, rows),) = case.inputs.items()
    return json.dumps({"instances": rows[:1].tolist()})


def _run(generator: Generator, load: Plan, *, during: Callable[[], None] | None = None) -> Outcome:
    outcome = generator.run(load, during=during)
    if outcome.failed:
        raise TargetError(f"{outcome.failed} of {outcome.sent} requests failed: {outcome.errors[0]['message']}")
    return outcome


def _known(figures: list[float | None]) -> list[float]:
    if None in figures:
        raise TargetError("no request was answered, so there is no percentile to compare; is the machine very busy?")
    return [figure for figure in figures if figure is not None]


def main() -> int:
    rows = [("delays", "loop", "requests", *(f"p{q}" for q in PERCENTILES), "largest difference")]
    with Generator() as generator:
        checks = []
        for kind, loop in KINDS_AND_LOOPS:
            checks.append(compare_percentiles(generator, kind, loop))
            print(f"{kind}, {loop} loop: {checks[-1].requests} requests", flush=True)
        by_wrk = None if missing(WRK) else wrk_p50("normal")
        runs = {loop: stalled(generator, loop) for loop in ("closed", "open")}
    for check in checks:
        pairs = zip(check.made, check.found, strict=True)
        figures = [f"{made:.1f} → {found:.1f}" for made, found in pairs]
        rows.append((check.kind, check.loop, str(check.requests), *figures, f"{max(check.off, key=abs):+.1%}"))
    print(f"\nWhat the server made → what the generator found, ms; {WITHIN:.0%} may lie between:\n{columns(rows)}\n")
    fine = all(check.true for check in checks)
    if by_wrk is None:
        print(f"p50 beside wrk's: skipped, {missing(WRK)}\n")
    else:
        off = checks[WRK_ROW].found[0] / by_wrk - 1
        fine &= abs(off) <= WRK_WITHIN
        print(
            f"p50 in the closed loop {checks[WRK_ROW].found[0]:.1f} ms, by wrk {by_wrk:.1f} ms: {off:+.1%}, {WRK_WITHIN:.0%} may lie between\n"
        )
    print(demonstration(runs))
    fine &= omission_shows(runs)
    print("The generator tells the truth." if fine else "A figure is off: is this machine busy? Run it again.")
    return 0 if fine else 1


def omission_shows(runs: dict[str, Outcome]) -> bool:
    """Whether the stall is in the open loop's p99.9 and not in the closed one's, though a request waited there too."""
    closed, opened = runs["closed"].latency, runs["open"].latency
    half_us = STALL_S * 1e6 / 2
    return (
        opened.get_value_at_percentile(99.9) > half_us > closed.get_value_at_percentile(99.9)
        and closed.get_max_value() > half_us
    )


def demonstration(runs: dict[str, Outcome]) -> str:
    """Coordinated omission in a few lines."""
    rows = [("loop", "requests", "above half a stall", "p50", "p99.9", "max")]
    for loop, outcome in runs.items():
        counted = slower(outcome, STALL_S / 2)
        p50, p999 = percentiles(outcome.latency, (50, 99.9))
        most = outcome.latency.get_max_value() / 1e3
        rows.append((loop, str(outcome.answered), str(counted), f"{p50:.1f} ms", f"{p999:.1f} ms", f"{most:.1f} ms"))
    return f"A server that answers in 21 ms stands still for {STALL_S:g} s, once:\n{columns(rows)}\n"


def slower(outcome: Outcome, seconds: float) -> int:
    """How many requests took longer than that."""
    return sum(
        step.count_added_in_this_iter_step
        for step in outcome.latency.get_recorded_iterator()
        if step.value_iterated_to > seconds * 1e6
    )


if __name__ == "__main__":
    interruptible()
    run_cli(main)
