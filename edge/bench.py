"""``edge bench``: what each model costs on this machine and what it answers, as a table and as JSON for the comparison."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import bench_plan, bench_table
from edge.answers import record_answers
from edge.candidates import SAVED_MODEL
from edge.device import conditions, describe_device
from edge.errors import EdgeError, SettingError
from edge.interpreters import installed_runtimes
from edge.measure import ROUNDS, Measurement, Row
from edge.runtime import LiteModel

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from edge.sample_inputs import Tensors


def add_parser(commands: Any) -> None:
    command = commands.add_parser("bench", help="measure this machine", description=__doc__)
    add = command.add_argument
    folder = {"type": Path, "metavar": "DIR"}
    add(
        "--models",
        nargs="+",
        default=[Path("artifacts/lite")],
        help="<model>/<version>/<variant>.tflite + .json; default artifacts/lite",
        **folder,
    )
    add("--variants", nargs="+", default=["int8", "float32"], metavar="NAME", help="or all; default int8 float32")
    add("--names", type=_names, metavar="MODEL,…", help="default: every model of the folders")
    add("--versions", choices=["newest", "all"], default="newest", help="of each model; default newest")
    add(
        "--threads",
        type=int,
        nargs="+",
        default=[1],
        metavar="N",
        help="of one invocation, measured in turn; default 1",
    )
    add("--runtime", nargs="+", metavar="NAME", help="or all; default: the first of those that are installed")
    add(
        "--delegate",
        nargs="+",
        default=["default"],
        metavar="NAME",
        help="default (XNNPACK), none, or the path of a delegate's shared library",
    )
    add(
        "--inputs",
        help="<model>/<version>.npz; default: the folder inputs beside the models'; without it rows are made up",
        **folder,
    )
    add(
        "--savedmodels",
        nargs="+",
        default=[],
        help="<model>/<version>/, asked with TensorFlow in the same run, where that is installed",
        **folder,
    )
    add("--seconds", type=float, default=1.0, metavar="S", help="of steady calls for each row of the table; default 1")
    add("--json", type=Path, metavar="FILE", help="everything, for `make compare-import FILE=…`")
    add("--name", metavar="DEVICE", help="what the tables call this machine; default: what it says of itself")
    add("--emulated", metavar="TEXT", help="the name of the emulator that this runs in: every time is marked")
    add("--no-answers", action="store_true", help="times only")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def run(options: argparse.Namespace) -> int:
    """Measure, print, write the JSON; 1 when nothing could be measured. Raises SettingError for wrong options."""
    try:
        report = _measure(options)
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return 130
    print(bench_table.text(report))
    if options.json:
        _write_whole(options.json, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        print(f"written: {options.json}")
    return 0 if any(row["error"] is None for row in report["rows"]) else 1


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """The JSON: compare/device_bench.schema.json."""
    bench_plan.check(options)
    plans, runtimes = bench_plan.find_plans(options), bench_plan.find_runtimes(options)
    device, before = describe_device(options.name), conditions()
    # Under emulation a process of its own would be one of the machine below.
    measurement = Measurement(seconds=options.seconds, cold=not options.emulated, tell=_tell)
    rows: list[Row] = []
    answers: dict[str, Any] = {}
    asked: dict[str, str] = {}
    for plan in plans:
        kinds, asked[f"{plan.model}/{plan.version}"] = plan.inputs()
        for threads in options.threads:
            found = [Row(c) for c in bench_plan.find_candidates(plan, options, runtimes, threads)]
            _tell(f"{plan.model} v{plan.version}, {bench_table.count(threads, 'thread')}, {len(found)} rows ")
            measurement.run(found, next(iter(kinds.values()), {}), size=plan.size)
            _tell("\n")
            if threads == options.threads[0] and plan.recorded.is_file() and not options.no_answers:
                answers |= _record(found, kinds)
            for row in found:
                row.answering = None  # its memory is for the next
            rows += found
    return {
        "schema": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "emulated": options.emulated,
        "runtimes": _versions(rows),
        "conditions": _before_and_after(before, conditions()),
        "settings": {"seconds": options.seconds, "rounds": ROUNDS},
        "inputs": asked,
        "rows": [row.to_json() for row in rows],
        "answers": answers,
    }


def _record(rows: Sequence[Row], kinds: dict[str, Tensors]) -> dict[str, Any]:
    """The answers of each file, on the first runtime and delegate that was asked for."""
    answers: dict[str, Any] = {}
    for row in rows:
        c, key = row.candidate, f"{row.candidate.model}/{row.candidate.version}/{row.candidate.variant}"
        if not isinstance(row.answering, LiteModel) or key in answers:
            continue
        try:
            how = {"runtime": c.runtime, "delegate": c.delegate, "threads": c.threads}
            answers[key] = how | record_answers(row.answering, kinds)
        except EdgeError as error:
            row.error = str(error)
    return answers


def _versions(rows: Sequence[Row]) -> dict[str, str]:
    used = {row.candidate.runtime for row in rows}
    found = {name: version for name, version in installed_runtimes().items() if name in used}
    return found | ({SAVED_MODEL: metadata.version("tensorflow")} if SAVED_MODEL in used else {})


def _before_and_after(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Pairs, None where the system shows nothing; the governor once."""
    pairs = {key: None if after[key] is None else [before[key], after[key]] for key in after}
    return pairs | {"governor": after["governor"]}


def _tell(piece: str) -> None:
    """Progress, beside the table that goes to standard output."""
    print(piece, end="", file=sys.stderr, flush=True)


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}; choose another --json") from error
    finally:
        temporary.unlink(missing_ok=True)
