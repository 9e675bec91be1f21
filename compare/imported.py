"""Rows that another machine measured: what ``edge bench --json`` wrote there, judged by the same verdict as all others."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np

from compare.calls import Call
from compare.cold import fixed_batch
from compare.rows import Row
from compare.target import all_targets
from compare.targets.lite import current_file, unsupported_file
from compare.tolerances import limits_for
from compare.verdict import Verdict, judge
from edge.answers import decode_tensor
from edge.candidates import SAVED_MODEL
from edge.sample_inputs import inputs_sha256
from edge.tensors import Tensor
from models.artifacts import read_json
from models.errors import ArtifactError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from export.bundle import Export
    from export.evidence import Case

    Told = Mapping[str, Any]  # a part of the JSON

MEASURE_AGAIN = (
    "Copy a new bundle to the device (`make edge-bundle`), run `edge bench` there, and import its JSON again."
)


@dataclass
class ImportedRow(Row):
    """``told`` is the device's own row of this file. An emulator's times are left out: they are no device's."""

    told: Told | None = None
    rounds: int = 0
    emulated: bool = False

    def latency(self) -> list[dict[str, Any]]:
        if self.emulated or self.told is None or self.told["predict_us"] is None:
            return []
        steady = self.told["predict_us"]
        return [
            {
                "batch": fixed_batch(self.export) or 1,
                "concurrency": 1,
                "cold_ms": self.told["cold_ms"],
                "first_ms": self.told["first_ms"],
                **{f"{p}_ms": steady[p] / 1e3 for p in ("p50", "p95", "p99")},
                "n": steady["n"],
                "repeat": self.rounds,
            }
        ]

    @property
    def cpu_us(self) -> float | None:
        return None if self.emulated or self.told is None else self.told["cpu_us"]


@cache
def schema() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("device_bench.schema.json").read_text())


def read_bench(path: Path) -> dict[str, Any]:
    """The JSON of a run on a device. Raises ArtifactError when it is not one, ModelError for a name that is taken."""
    try:
        bench = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); give the file that `edge bench --json` wrote") from error
    problem = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(bench))
    if problem:
        place = "/".join(map(str, problem.absolute_path)) or "the file"
        raise ArtifactError(
            f"{path} is not what `edge bench --json` writes: {place}: {problem.message[:200]}; run it again on the device"
        )
    name = device_name(bench)
    if not name or any(target.name.endswith(f"@{name}") for target in all_targets()):
        raise ModelError(
            f"the device's name {bench['device']['name']!r} cannot be a row's; choose another: edge bench --name"
        )
    return bench


def device_name(bench: Told) -> str:
    """The device's name as part of a target's name: small letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", bench["device"]["name"].lower())[:32].strip("-.")


def rows_of(bench: Told, exports: Iterable[Export]) -> tuple[list[ImportedRow], list[str]]:
    """A judged row for each .tflite file of the benchmark, and what was left out, one sentence each."""
    known = {(export.model, export.version): export for export in exports}
    files: dict[tuple[str, int, str], list[Told]] = {}
    for told in bench["rows"]:
        if told["runtime"] != SAVED_MODEL:
            files.setdefault((told["model"], told["version"], told["variant"]), []).append(told)
    rows: list[ImportedRow] = []
    left_out: dict[str, None] = {}  # in order, each once
    for (model, version, variant), measured in files.items():
        if (model, version) not in known:
            left_out[f"{model} version {version}: there is no such export here"] = None
        elif not _has_limits(variant):
            left_out[f"{model} {variant}: compare/tolerances.toml has no limits for it"] = None
        else:
            rows.append(_row(bench, known[model, version], variant, measured))
    return rows, list(left_out)


def _has_limits(variant: str) -> bool:
    try:
        limits_for(variant)
    except KeyError:
        return False
    return True


def _row(bench: Told, export: Export, variant: str, measured: Sequence[Told]) -> ImportedRow:
    answers = bench["answers"].get(f"{export.model}/{export.version}/{variant}")
    way = (answers["runtime"], answers["delegate"]) if answers else None
    told = min(measured, key=lambda r: (r["error"] is not None, (r["runtime"], r["delegate"]) != way, r["threads"]))
    row = ImportedRow(export, f"lite-{variant}@{device_name(bench)}", variant, variant, told=told)
    row.rounds, row.emulated = bench["settings"]["rounds"], bench["emulated"] is not None
    runtime = f"{told['runtime']} {bench['runtimes'].get(told['runtime'], '')}".strip()
    row.facts = {
        "artifact_bytes": told["bytes"],
        "artifact_sha256": told["sha256"],
        "rss_bytes": None if row.emulated else told["peak_rss_bytes"],
        "runtime_version": f"{runtime} on {_device(bench)}",
    }
    verdict = _judge(export, variant, told, answers)
    row.looped = verdict.verdict == "pass" and _described(export, variant)["inputs"][0]["shape"][0] == 1
    row.verdict = replace(verdict, reason="; ".join(filter(None, (verdict.reason, _circumstances(bench, told)))))
    return row


def _device(bench: Told) -> str:
    """ "Raspberry Pi 5 Model B Rev 1.0, 4 cores"."""
    device = bench["device"]
    cores = f"{device['cores']} core{'' if device['cores'] == 1 else 's'}"
    emulated = f", emulated by {bench['emulated']}: times say nothing about a device" if bench["emulated"] else ""
    return f"{device['model'] or device['cpu']}, {cores}{emulated}"


def _circumstances(bench: Told, told: Told) -> str:
    threads = f"{told['threads']} thread{'' if told['threads'] == 1 else 's'}"
    parts = [f"measured {bench['created'][:10]} on {_device(bench)}", threads]
    if told["delegate"]:
        parts.append(f"delegate {told['delegate']}")
    temperature = [f"{value:.0f}" for value in bench["conditions"]["temperature_c"] or () if value is not None]
    if temperature:
        parts.append(f"{' → '.join(temperature)} °C")
    throttled = {word for word in bench["conditions"]["throttled"] or () if word not in (None, "no")}
    if throttled:
        parts.append(f"throttled: {', '.join(sorted(throttled))}")
    return ", ".join(parts)


def _judge(export: Export, variant: str, told: Told, answers: Told | None) -> Verdict:
    signature = export.description.get("brought", {}).get("signature", "serving_default")
    if reason := unsupported_file(export, variant, signature):
        return Verdict("skipped", reason)
    try:
        current_file(export, variant)
    except ArtifactError as error:
        return Verdict("skipped", str(error))
    described = _described(export, variant)
    if told["sha256"] not in (described["sha256"], None):
        older = f"{told['sha256'][:12]}…, now {described['sha256'][:12]}…"
        return Verdict("skipped", f"measured with another file than that of artifacts/lite ({older}). {MEASURE_AGAIN}")
    if told["error"]:
        return Verdict("skipped", told["error"]) if told["refused"] else Verdict("fail", told["error"], MEASURE_AGAIN)
    if answers is None:
        return Verdict("info", "times only: the benchmark had no recorded inputs to answer (edge bench --inputs)")
    cases = export.evidence.cases(signature)
    if answers["inputs_sha256"] != inputs_sha256({case.kind: case.inputs for case in cases}):
        return Verdict("skipped", f"it answered other inputs than those of today's evidence. {MEASURE_AGAIN}")
    if answers["sha256"] != told["sha256"]:
        return Verdict("fail", "its answers are said to be another file's than its times", MEASURE_AGAIN)
    try:
        calls = [call for case in cases for call in _calls(case, described, answers)]
    except (KeyError, ValueError) as error:
        return Verdict("fail", f"its answers are damaged or incomplete ({error})", MEASURE_AGAIN)
    return judge(calls, export.spec, precision=variant)


def _calls(case: Case, described: Told, answers: Told) -> list[Call]:
    """All rows, asked twice: the second time is told in the file's own tensors. Raises KeyError or ValueError."""
    given = {name: decode_tensor(encoded) for name, encoded in answers["outputs"][case.kind].items()}
    again = {}
    for told in described["outputs"]:
        tensor = Tensor.from_json(told, described["affine"]["outputs"].get(told["name"]))
        own = decode_tensor(answers["raw_outputs"][case.kind][tensor.name])
        if own.dtype != tensor.dtype:
            raise ValueError(f"{tensor.name} of the file is {tensor.dtype}, not {own.dtype}")
        with np.errstate(over="ignore", invalid="ignore"):
            again[tensor.name] = tensor.to_raw(own, case.inputs)
    return [Call(case, 0, case.rows, repeat, outputs) for repeat, outputs in ((1, given), (2, again))]


def _described(export: Export, variant: str) -> dict[str, Any]:
    return read_json(export.lite(variant).with_suffix(".json"))
