"""One run: every file of the bundle on each kind of ARM machine and on this one, and the service there over HTTP."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from compare.arm.asking import ask_emulated, ask_native
from compare.arm.judging import Difference, difference, limit_for
from compare.arm.machine import make_machine
from compare.arm.service import emulated_service, trouble_over_http
from deploy.bundle import VARIANTS
from edge.sample_inputs import read_inputs
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.arm.asking import Told
    from compare.arm.machine import ArmMachine

GOOD = ("same bits", "within the limit", "cannot run")


@dataclass(kw_only=True)
class Row:
    """One file on one kind of machine. ``verdict``: one of GOOD, or "differs"; ``reason``: what is not as it should be."""

    arch: str
    model: str
    version: int
    variant: str
    runtime: str
    verdict: str = ""
    reason: str = ""
    found: Difference | None = None
    http: str | None = None  # "ok", what was wrong, or None where there was nothing to ask
    answers: dict[str, Any] | None = field(default=None, repr=False)  # of the emulated side

    @property
    def good(self) -> bool:
        return self.verdict in GOOD and self.http in (None, "ok")

    def to_json(self) -> dict[str, Any]:
        told = {name: value for name, value in asdict(self).items() if name not in ("answers", "found")}
        return told | {"found": asdict(self.found) if self.found else None}


@dataclass(kw_only=True)
class ArmRun:
    """What one kind of machine gave. ``bench``: as one run of ``edge bench`` would have written it."""

    arch: str
    emulator: str
    rows: list[Row]
    bench: dict[str, Any] | None
    seconds: float


def run(arch: str, *, models: Sequence[str], variants: Sequence[str], versions: str, http: bool = True) -> ArmRun:
    """Raises CannotEmulate where there is no emulator to be had."""
    start = time.monotonic()
    machine = make_machine(arch, variants=[*dict.fromkeys((*VARIANTS, *variants))])
    print(f"{arch}: {machine.label}; every time below is the emulator's", flush=True)
    rows: list[Row] = []
    benches: list[dict[str, Any]] = []
    for variant in variants:
        found: list[Row] = []
        for model in models or sorted(path.name for path in (machine.bundle / "models").iterdir()):
            found += _ask_both(machine, model, variant, versions, benches)
        if http:
            _ask_service(machine, variant, found)
        rows += found
    return ArmRun(
        arch=arch,
        emulator=machine.label,
        rows=rows,
        bench=_merged(benches),
        seconds=time.monotonic() - start,
    )


def _ask_both(machine: ArmMachine, model: str, variant: str, versions: str, benches: list[dict[str, Any]]) -> list[Row]:
    print(f"  {model} {variant} …", end="", flush=True)
    here = ask_native(machine, model, variant, versions=versions)
    arm = ask_emulated(machine, model, variant, versions=versions)
    print(f" {arm.seconds:.0f} s (emulated)", flush=True)
    if arm.report:
        benches.append(arm.report)
    places = sorted(
        (machine.bundle / "models" / model).glob(f"*/{variant}.json"), key=lambda path: int(path.parent.name)
    )
    rows = []
    for place in places if versions == "all" else places[-1:]:
        row = Row(arch=machine.kind.arch, model=model, version=int(place.parent.name), variant=variant, runtime="")
        _judge(row, arm, here)
        rows.append(row)
    return rows


def _judge(row: Row, arm: Told, here: Told) -> None:
    row.runtime = " ".join(next(iter((arm.report or here.report or {"runtimes": {}})["runtimes"].items()), ("", "")))
    row.answers, expected = _answers(arm, row), _answers(here, row)
    if row.answers is None or expected is None:
        reason, reason_here = _error(arm, row), _error(here, row)
        row.reason = reason or reason_here or "no answers were recorded"
        # A file that this runtime refuses on every processor is no difference between processors.
        row.verdict = "cannot run" if reason and reason == reason_here else "differs"
        return
    try:
        row.found = difference(row.answers, expected)
    except (ValueError, KeyError) as error:
        row.verdict, row.reason = "differs", str(error)
        return
    limit = limit_for(row.arch, row.model, row.variant)
    if row.found.same_bits:
        row.verdict = "same bits"
    else:
        row.verdict, row.reason = "within the limit" if limit.passes(row.found) else "differs", limit.reason


def _answers(told: Told, row: Row) -> dict[str, Any] | None:
    return told.report["answers"].get(f"{row.model}/{row.version}/{row.variant}") if told.report else None


def _error(told: Told, row: Row) -> str | None:
    for measured in told.report["rows"] if told.report else ():
        if (measured["model"], measured["version"], measured["variant"]) == (row.model, row.version, row.variant):
            return measured["error"]
    return told.error


def _ask_service(machine: ArmMachine, variant: str, rows: Sequence[Row]) -> None:
    print(f"  the service, {variant} …", end="", flush=True)
    start = time.monotonic()
    try:
        with emulated_service(machine, variant) as client:
            print(f" answers after {time.monotonic() - start:.0f} s (emulated)", flush=True)
            for row in rows:
                if row.answers:
                    inputs = read_inputs(machine.bundle / "inputs" / row.model / f"{row.version}.npz")
                    row.http = trouble_over_http(client, row.model, row.version, inputs, row.answers) or "ok"
    except TargetError as error:
        print("", flush=True)
        for row in rows:
            row.http = str(error)


def _merged(benches: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    if not benches:
        return None
    merged = dict(benches[0])
    for part in ("inputs", "answers", "runtimes"):
        merged[part] = {key: value for bench in benches for key, value in bench[part].items()}
    merged["rows"] = [row for bench in benches for row in bench["rows"]]
    return merged
