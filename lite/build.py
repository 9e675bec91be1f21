"""Brings ``artifacts/lite/`` up to date: what is stale, who converts it, and what is written about each file.

Imports no TensorFlow: the conversions run in worker processes, started only when something is out of date.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.bundle import Export, find_exports
from lite.compress.settings import made_from as compression_made_from
from lite.compress.settings import what_is_missing
from lite.inspect import inspect_kernels, inspect_tflite
from lite.metadata import with_metadata
from lite.process import ConversionFailed, Worker
from lite.variants import SERVING, VARIANTS, Variant
from models.artifacts import is_current, read_json, sha256_file, sweep, write_json, write_whole
from models.code import code_fingerprint
from models.errors import ArtifactError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

WORKERS = 2  # each holds TensorFlow, about 700 MB
SCHEMA = 2  # of the json; a new number has every file made again
_NAMES = ("bias", "convert", "inspect", "metadata", "reasons", "graph", "softmax", "variants")
CODE = [Path(__file__).with_name(f"{name}.py") for name in _NAMES]
# What a .tflite file itself holds of its json.
_IN_THE_FILE = ("model", "version", "variant", "signature", "source_sha256", "affine")


@dataclass(frozen=True)
class Job:
    export: Export
    variant: Variant
    signature: str
    made_from: str

    @property
    def path(self) -> Path:
        return self.export.lite(self.variant.name)

    def request(self, output: Path) -> dict[str, Any]:
        """What the worker is asked for, see lite/worker.py."""
        return {
            "root": str(self.export.root),
            "model": self.export.model,
            "version": self.export.version,
            "variant": self.variant.name,
            "signature": self.signature,
            "output": str(output),
        }

    def __str__(self) -> str:
        return f"{self.export.model}/{self.export.version}/{self.variant.name}"


@dataclass(frozen=True)
class Result:
    job: Job
    error: str | None
    seconds: float


def build(
    root: Path | None = None, *, models: Iterable[str] | None = None, variants: Iterable[str] | None = None
) -> tuple[list[Result], int]:
    """Convert what is out of date below ``root``; returns the results and how many files were current already.

    A variant that cannot be converted leaves its json with the reason and no .tflite; the others go on.
    Raises ModelError for an unknown model or variant, ArtifactError when something cannot be read or written.
    """
    exports = find_exports(root, models=models)
    if not exports:
        raise ModelError(
            "there is nothing to convert: no export found; run `make deploy-all`, or `python -m export` first"
        )
    newest = {export.model: export for export in exports}  # they come by version
    jobs = [job for export in exports for job in _jobs(export, variants, newest=export == newest[export.model])]
    for folder in {job.path.parent for job in jobs if job.path.parent.is_dir()}:
        sweep(folder)
    stale = [job for job in jobs if not up_to_date(job)]
    return _convert_all(stale), len(jobs) - len(stale)


def _jobs(export: Export, names: Iterable[str] | None, *, newest: bool) -> list[Job]:
    """A compression, which trains, is for the newest version only."""
    chosen = list(names or VARIANTS)
    for name in chosen:
        if name not in VARIANTS:
            raise ModelError(
                f"there is no variant named {name!r}; choose among {', '.join(VARIANTS)}, or deployed alone"
            )
    saved_model_pb = export.saved_model / "saved_model.pb"
    if not saved_model_pb.is_file():
        raise ArtifactError(
            f"{saved_model_pb} is missing though {export.evidence_json} describes it; run `make deploy-all`"
        )
    signatures = export.description.get("signatures") or [SERVING]
    brought = export.description.get("brought")
    content = [sha256_file(path) for path in (saved_model_pb, *sorted((export.saved_model / "variables").glob("*")))]
    jobs = []
    for name in chosen:
        variant = VARIANTS[name]
        if variant.compression != "none" and not newest:
            continue
        # The evidence counts only where a file is calibrated with it, the training only where it goes on.
        evidence = export.description.get("evidence", {}).get("sha256") if variant.calibrated else None
        training = compression_made_from(export) if variant.compression != "none" else None
        sources = [SCHEMA, export.sha256, content, evidence, training, name, versions()]
        made_from = code_fingerprint(CODE, extra=json.dumps(sources))
        signature = variant.signature_in(signatures)
        if brought and not (signature == "static" and export.description["reference"] == "keras"):
            # A user's SavedModel is asked through one signature, whatever its others are; the one made of a user's Keras
            # file has the ``static`` one of our export too, which recurrent layers need.
            signature = brought["signature"]
        jobs.append(Job(export, variant, signature, made_from))
    return jobs


def find_job(export: Export, variant: str) -> Job:
    return _jobs(export, [variant], newest=True)[0]


@cache
def versions() -> list[str]:
    return [f"{name}=={metadata.version(name)}" for name in ("tensorflow", "ai-edge-litert", "ai-edge-quantizer")]


def up_to_date(job: Job) -> bool:
    """Whether json and .tflite were made from this SavedModel by this code, and are whole."""
    description = job.path.with_suffix(".json")
    if not is_current(description, job.made_from):
        return False
    expected = read_json(description)
    if expected["error"]:
        return not job.path.exists()
    return job.path.is_file() and sha256_file(job.path) == expected["sha256"]


def _convert_all(jobs: list[Job]) -> list[Result]:
    """All jobs of one model go to the same worker while there is a choice: its SavedModel is then read once."""
    waiting: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
    by_export: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        by_export.setdefault((job.export.model, job.export.version), []).append(job)
    for group in by_export.values():
        waiting.put(group)
    stop = threading.Event()

    def work() -> list[Result]:
        results: list[Result] = []
        with Worker() as worker:
            while not stop.is_set():
                try:
                    group = waiting.get_nowait()
                except queue.Empty:
                    break
                results += [_convert(job, worker) for job in group if not stop.is_set()]
        return results

    workers = min(WORKERS, os.cpu_count() or 1, len(by_export))
    if not workers:
        return []
    print(f"lite: {len(jobs)} files to convert, starting TensorFlow", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for _ in range(workers)]
        try:
            return [result for future in futures for result in future.result()]
        finally:  # one that failed, or Ctrl-C, stops the others after their current file
            stop.set()


def _convert(job: Job, worker: Worker) -> Result:
    started = time.monotonic()
    description = _blank(job)
    try:
        missing = what_is_missing(job.export) if job.variant.compression != "none" else None
        if missing:
            raise ConversionFailed(missing)
        with write_whole(job.path) as temporary:
            answer = worker.ask(job.request(temporary), str(job))
            entry = {key: description[key] for key in _IN_THE_FILE}
            content = with_metadata(temporary.read_bytes(), entry)
            temporary.write_bytes(content)
            description = describe(job, content, answer)
    except ConversionFailed as failed:
        job.path.unlink(missing_ok=True)
        description["error"] = str(failed)
        if failed.may_pass:
            description["made_from"] = None
    write_json(job.path.with_suffix(".json"), description)
    seconds = time.monotonic() - started
    outcome = f"failed: {description['error']}" if description["error"] else f"{description['bytes'] / 1000:.0f} kB"
    print(f"lite: {job} {outcome} ({seconds:.1f} s)", flush=True)
    return Result(job, description["error"], seconds)


def _blank(job: Job) -> dict[str, Any]:
    """The json of a file that is not there (yet)."""
    return {
        "schema": SCHEMA,
        "model": job.export.model,
        "version": job.export.version,
        "variant": job.variant.name,
        "source_sha256": job.export.sha256,
        "signature": job.signature,
        "made_from": job.made_from,
        "sha256": None,
        "bytes": None,
        "gzip_bytes": None,
        "error": None,
        "inputs": [],
        "outputs": [],
        "affine": _affine(job),
        "calibration": None,
        "compression": None,
        "quantized": None,
        "recurrent": None,
        "ops": {},
        "float_islands": {},
        "stateful": False,
    }


def describe(job: Job, content: bytes, answer: dict[str, Any]) -> dict[str, Any]:
    """What the json says of a file: read from its content, and from what the worker did for it."""
    found = inspect_tflite(content)
    del found["metadata"]  # the same as in the json itself
    for side, tensors in (("inputs", job.export.spec.inputs), ("outputs", job.export.spec.outputs)):
        ranges = {tensor.name: tensor.range for tensor in tensors}
        for tensor in found[side]:
            tensor["range"] = ranges.get(tensor["name"])
    compression = answer["compression"]
    return {
        **_blank(job),
        **found,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "gzip_bytes": len(gzip.compress(content, mtime=0)),
        "calibration": answer["calibration"],
        "compression": {**compression, "reached": inspect_kernels(content)} if compression else None,
        "recurrent": _recurrent(answer["has_recurrent"], found["ops"]),
    }


def _affine(job: Job) -> dict[str, dict[str, Any]]:
    """The normalisation that a caller of the file applies: of the spec for ``core``, none for raw signatures."""
    spec = job.export.spec
    if job.signature != "core":
        return {"inputs": {}, "outputs": {}}
    return {
        "inputs": {t.name: asdict(t.affine) for t in spec.inputs if t.affine},
        "outputs": {t.name: asdict(t.affine) for t in spec.outputs if t.affine},
    }


def _recurrent(has_recurrent: bool, ops: dict[str, int]) -> str | None:
    if not has_recurrent:
        return None
    return "fused" if "UNIDIRECTIONAL_SEQUENCE_LSTM" in ops else "unrolled"
