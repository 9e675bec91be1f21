"""Two versions of a model on live traffic of the running server: errors, latency, agreement, task metric, and a verdict.

    python -m compare versions MODEL                 # stable beside canary
    python -m compare versions MODEL 1 2 --seconds 20

The traffic is the labelled test rows of the newer version's evidence, one row a request and one request at a time,
shared between the two by the clients' weighted split and over both protocols in turn. Every row is asked of both
versions before the end, so that agreement and metric are on the same rows. Exit code 0: the newer is no worse; 1: it is;
2: the two cannot be compared.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from compare import units
from compare.shift import VersionShift, version_shift
from compare.terminal import console, plain_table, versions_table
from compare.verdict import metric_value
from deploy.ports import port
from export.bundle import find_exports
from models.errors import ModelError, TargetError
from serving.client import ClientError, GrpcClient, Refused, RestClient, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from export.bundle import Export
    from export.evidence import Case

    Client = RestClient | GrpcClient

SIGNATURE = "serving_default"
WARM_UP_CALLS = 3
RESAMPLES = 300  # of the rows, for the range in which the metric's difference lies
SURE = (2.5, 97.5)  # percentiles: a difference counts when 95 % of the resamples agree on its sign
SLOWER = 1.5  # a p95 this many times the older one's is said; below, a busy second explains it


@dataclass(frozen=True)
class Side:
    """One of the two: ``name`` as it was asked for (a label or a number), and the version behind it."""

    name: str
    version: int

    @property
    def which(self) -> dict[str, Any]:
        """How requests name it: a label stays a label, as callers would ask."""
        return {"version": self.version} if self.name.isdigit() else {"label": self.name}


@dataclass
class Measured:
    """What one side did over one protocol. Times in seconds, of requests that were answered."""

    protocol: str
    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return len(self.seconds) + sum(self.errors.values())

    def percentile(self, q: float) -> float | None:
        """Milliseconds."""
        return float(np.percentile(self.seconds, q)) * 1e3 if self.seconds else None


@dataclass(frozen=True)
class Judged:
    """``verdict``: "better", "same" or "worse", from the newer version's side."""

    verdict: str
    sentence: str
    next: str


class Traffic:
    """Asks both sides rows of the evidence, and keeps what they answered."""

    def __init__(self, export: Export, case: Case, sides: tuple[Side, Side], clients: dict[str, Client]) -> None:
        self._model, self._case, self._clients = export.model, case, clients
        decision = export.spec.decision
        assert decision is not None
        self._output = decision.output
        self._split = Split({"old": 1, "new": 1})
        self._sides = dict(zip(("old", "new"), sides, strict=True))
        self.measured = {which: [Measured(protocol) for protocol in clients] for which in self._sides}
        self.answers: dict[str, dict[int, NDArray]] = {"old": {}, "new": {}}

    def run(self, seconds: float) -> None:
        """Every row to both sides, whom the split chooses first; then to whom it chooses, until the time is over."""
        protocols, other = list(self._clients), {"old": "new", "new": "old"}
        for which, protocol, row in itertools.product(other, protocols, range(min(WARM_UP_CALLS, self._case.rows))):
            self._ask(which, protocol, row, measure=False)
        end = time.perf_counter() + seconds
        for turn in itertools.count():
            for row in range(self._case.rows):
                protocol = protocols[(turn + row) % len(protocols)]
                chosen = self._split.choose(f"{turn}/{row}")
                self._ask(chosen, protocol, row)
                if turn == 0:
                    self._ask(other[chosen], protocol, row)
                elif time.perf_counter() > end:
                    return

    def _ask(self, which: str, protocol: str, row: int, *, measure: bool = True) -> None:
        inputs = {name: rows[row : row + 1] for name, rows in self._case.inputs.items()}
        start = time.perf_counter()
        error = ""
        try:
            answer = self._clients[protocol].predict(self._model, inputs, **self._sides[which].which)
            if self._output in answer:
                self.answers[which][row] = answer[self._output]
            else:
                error = f"no output {self._output}; there are: {', '.join(answer)}"
        except ClientError as failure:
            error = str(failure)
        took = time.perf_counter() - start
        if not measure:
            return
        found = next(m for m in self.measured[which] if m.protocol == protocol)
        if error:
            found.errors[error] = found.errors.get(error, 0) + 1
        else:
            found.seconds.append(took)

    def together(self) -> tuple[NDArray, NDArray, NDArray]:
        """Rows that both answered: their numbers, and the deciding output of the older and of the newer."""
        rows = sorted(self.answers["old"].keys() & self.answers["new"].keys())
        before, after = (np.concatenate([self.answers[w][row] for row in rows]) for w in ("old", "new"))
        return np.array(rows), before, after


def compare_versions(
    model: str,
    old: str = "stable",
    new: str = "canary",
    *,
    seconds: float = 10.0,
    grpc_address: str | None = None,
    rest_address: str | None = None,
) -> dict[str, Any]:
    """Everything that is told, as data. Raises ModelError, TargetError, ArtifactError."""
    grpc_address = grpc_address or f"127.0.0.1:{port('GRPC_PORT')}"
    rest_address = rest_address or f"127.0.0.1:{port('REST_PORT')}"
    with GrpcClient(grpc_address) as grpc, RestClient(rest_address) as rest:
        sides = (_side(grpc, model, old, grpc_address), _side(grpc, model, new, grpc_address))
        if sides[0].version == sides[1].version:
            raise ModelError(
                f"{old} and {new} of {model} are both version {sides[0].version}; name two that differ, such as "
                f"`python -m compare versions {model} previous stable` or two version numbers"
            )
        export, case = _evidence(model, sides[1].version)
        traffic = Traffic(export, case, sides, {"grpc": grpc, "rest": rest})
        traffic.run(seconds)
        for side in sides:
            if (now := _side(grpc, model, side.name, grpc_address)) != side:
                raise TargetError(
                    f"{side.name} moved from version {side.version} to {now.version} during the comparison; run it again"
                )
    rows, before, after = traffic.together() if all(traffic.answers.values()) else (np.empty(0), None, None)
    shift, between = None, None
    if before is not None and after is not None and len(rows):
        assert case.labels is not None
        labels = case.labels[rows]
        shift = version_shift(before, after, labels, export.spec)
        between = _difference(before, after, labels, export)
    judged = judge(traffic, sides, shift, between, export)
    return {
        "schema": 1,
        "model": model,
        "sides": [
            {
                "name": side.name,
                "version": side.version,
                "traffic": [
                    {
                        "protocol": m.protocol,
                        "requests": m.requests,
                        "errors": m.errors,
                        **{f"p{q}_ms": m.percentile(q) for q in (50, 95, 99)},
                    }
                    for m in traffic.measured[which]
                ],
            }
            for which, side in zip(("old", "new"), sides, strict=True)
        ],
        "shift": shift and asdict(shift),
        "difference": between,
        **asdict(judged),
    }


def judge(
    traffic: Traffic,
    sides: tuple[Side, Side],
    shift: VersionShift | None,
    between: tuple[float, float] | None,
    export: Export,
) -> Judged:
    """Errors first, then the task metric; latency is told beside them."""
    old, new = sides
    failed = {which: sum(sum(m.errors.values()) for m in traffic.measured[which]) for which in ("old", "new")}
    asked = {which: sum(m.requests for m in traffic.measured[which]) for which in ("old", "new")}
    rollback = f"`python -m serving.publish rollback {export.model}` takes it back if it is stable already"
    if failed["new"] / asked["new"] > failed["old"] / asked["old"]:
        errors = [error for m in traffic.measured["new"] for error in m.errors]
        return Judged(
            "worse",
            f"{_name(new)} fails {failed['new']} of {asked['new']} requests, {_name(old)} {failed['old']}: {errors[0]}",
            f"do not promote it: see the server's log; {rollback}",
        )
    slow = _slower(traffic, new)
    if shift is None or between is None or shift.old_metric is None or shift.new_metric is None:
        return Judged(
            "same",
            f"{_name(new)} fails no more than {_name(old)}; no metric is defined on these rows{slow}",
            "compare them on labelled rows before promoting",
        )
    metric = f"{shift.metric_name} {units.number(shift.new_metric)} instead of {units.number(shift.old_metric)}"
    surely = f"95 % of resamples between {between[0]:+.2g} and {between[1]:+.2g}, n {shift.n}"
    assert export.spec.metric is not None
    better, worse = between[0] > 0, between[1] < 0
    if not export.spec.metric.higher_is_better:
        better, worse = worse, better
    if worse:
        return Judged("worse", f"{_name(new)} is worse: {metric} ({surely}){slow}", f"do not promote it; {rollback}")
    promote = f"promote it: `python -m serving.publish promote {export.model} --to {new.version}`"
    if better:
        return Judged("better", f"{_name(new)} is better: {metric} ({surely}){slow}", promote)
    return Judged("same", f"no clear difference: {metric} ({surely}){slow}", f"either will do; {promote}")


def show(screen: Console, result: dict[str, Any]) -> None:
    table = plain_table(f"{result['model']} on live traffic, one request at a time")
    for column in ("version", "protocol"):
        table.add_column(column, no_wrap=True)
    for column in ("requests", "errors", "p50", "p95", "p99"):
        table.add_column(column, justify="right", no_wrap=True)
    for side in result["sides"]:
        for row in side["traffic"]:
            table.add_row(
                f"{side['version']}" if side["name"].isdigit() else f"{side['version']} ({side['name']})",
                row["protocol"],
                str(row["requests"]),
                str(sum(row["errors"].values())),
                *(units.milliseconds(row[f"p{q}_ms"]) for q in (50, 95, 99)),
            )
    screen.print(table)
    if result["shift"]:
        old, new = (side["version"] for side in result["sides"])
        row = {"model": result["model"], "target": "live", "old": old, "new": new, **result["shift"]}
        screen.print(versions_table([row]))
    colour = {"better": "bold green", "same": "cyan", "worse": "bold red"}[result["verdict"]]
    screen.print(f"\n[{colour}]{result['verdict']}[/]  ", end="")
    screen.print(result["sentence"], markup=False, soft_wrap=True)
    screen.print(f"next: {result['next']}", markup=False, soft_wrap=True)


def run_versions(model: str, old: str, new: str, *, seconds: float, as_json: bool, **addresses: str | None) -> int:
    """The command; its exit code."""
    result = compare_versions(model, old, new, seconds=seconds, **addresses)
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show(console(), result)
    return 1 if result["verdict"] == "worse" else 0


def _side(client: GrpcClient, model: str, name: str, address: str) -> Side:
    """The version behind a label or a number. Raises TargetError, with the server's words where it has none."""
    which: Any = {"version": int(name)} if name.isdigit() else {"label": name}
    try:
        return Side(name, int(client.metadata(model, **which)["model_spec"]["version"]))
    except Refused as error:
        raise TargetError(
            f"the server at {address} has no {name} of {model} ({error.message}); "
            "`python -m serving.publish status` shows its versions and labels"
        ) from None
    except ClientError as error:
        raise TargetError(f"{error.message}; `make deploy-all` starts this deployment's") from None


def _evidence(model: str, version: int) -> tuple[Export, Case]:
    """The labelled rows that the newer version was tested on. Raises ModelError where there are none."""
    exports = find_exports(models=[model], versions=[version])
    case = exports[0].evidence.case(SIGNATURE, "test") if exports else None
    if case is None or case.labels is None or exports[0].spec.decision is None or exports[0].spec.metric is None:
        raise ModelError(
            f"there are no labelled test rows of {model} version {version} to ask; only models that were exported here, "
            "with a decision and a metric, can be compared on traffic"
        )
    return exports[0], case


def _difference(before: NDArray, after: NDArray, labels: NDArray, export: Export) -> tuple[float, float] | None:
    """The range of new metric − old metric over resamples of the rows (a paired bootstrap), None where undefined."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(labels), len(labels))
        old, new = (metric_value(export.spec, labels[rows], answers[rows]) for answers in (before, after))
        if old is not None and new is not None:
            found.append(new - old)
    if len(found) < RESAMPLES // 2:
        return None
    low, high = np.percentile(found, SURE)
    return float(low), float(high)


def _slower(traffic: Traffic, new: Side) -> str:
    """What to say about latency: the protocol on which the newer one's p95 is much worse, or nothing."""
    for before, after in zip(traffic.measured["old"], traffic.measured["new"], strict=True):
        old_p95, new_p95 = before.percentile(95), after.percentile(95)
        if old_p95 and new_p95 and new_p95 > SLOWER * old_p95:
            times = f"{new_p95 / old_p95:.1f} times as long ({units.milliseconds(new_p95)}, p95 by {after.protocol})"
            return f"; version {new.version} takes {times}"
    return ""


def _name(side: Side) -> str:
    return f"version {side.version}" if side.name.isdigit() else f"{side.name} (version {side.version})"
