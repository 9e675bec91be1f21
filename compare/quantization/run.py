"""One run of the report: what is asked, in which order, and what becomes of each answer."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.guard import Guard
from compare.quantization import latency, layers, memory
from compare.quantization.files import find_files, newest_exports
from compare.quantization.lite_bench import LiteBench
from compare.quantization.recommend import is_full_integer, recommend
from compare.quantization.service import VARIANT, service_costs
from compare.quantization.tensorflow_bench import TensorFlowBench
from compare.run import tell
from compare.tolerances import limits_for
from export.bundle import Export
from lite import standin
from models.artifacts import REPOSITORY, read_json
from models.errors import ModelError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from compare.quantization.files import LiteFile

TENSORFLOW_STARTS = 300.0  # seconds, on a busy machine; 10 on an idle one
ASKED = 120.0  # seconds for the verdict or the layers of one file
WORST = 2  # variants per model whose layers are looked into, and int8


@dataclass(frozen=True)
class Effort:
    """How long to measure. ``rounds`` blocks of ``seconds`` for each way to call a model."""

    rounds: int = 12
    seconds: float = 0.008
    memory_repeats: int = 3
    service_rounds: int = 25
    service_seconds: float = 0.1  # of one block of requests
    tensorflow: tuple[int | None, ...] = (1, None)  # threads; None is TensorFlow's own choice


QUICK = Effort(rounds=2, seconds=0.002, memory_repeats=1, service_rounds=2, service_seconds=0.05, tensorflow=(1,))


@dataclass(frozen=True)
class Selection:
    """Empty means everything, the stand-in included."""

    models: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    effort: Effort = Effort()


def measure(selection: Selection, *, threads: Sequence[int]) -> list[dict[str, Any]]:
    """Everything about every model, JSON-ready: ``models`` of ``lite.schema.json``.

    What one file costs its process (a crash, a hang) is told in its own row. Raises ModelError and ArtifactError.
    """
    effort = selection.effort
    own = [name for name in selection.models if name != standin.NAME]
    exports = newest_exports(own) if own or not selection.models else []
    files = {export: find_files([export], selection.variants) for export in exports}
    with_standin = not selection.models or standin.NAME in selection.models
    with ExitStack() as stack:
        lite = stack.enter_context(Guard(LiteBench))
        tensorflow = {n: stack.enter_context(Guard(partial(TensorFlowBench, n))) for n in effort.tensorflow}
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lite-report-")))
        if with_standin:
            export = _made_standin()
            files[export] = find_files([export], selection.variants, made=standin.VARIANTS)
        pool = stack.enter_context(ThreadPoolExecutor(len(tensorflow)))
        opening = [pool.submit(_open_tensorflow, guard, list(files)) for guard in tensorflow.values()]
        tell(f"lite-report: {sum(map(len, files.values()))} files of {len(files)} models; quality")
        models = [_model(export, found, lite) for export, found in files.items()]
        tell(" memory")
        _memory(models, files, effort.memory_repeats)
        tell(" TensorFlow")
        for future in opening:
            future.result()
        tell(" layers")
        for model, (export, found) in zip(models, files.items(), strict=True):
            if not model["stand_in"]:  # its weights are random, and so would be the ranking
                model["layers"] = list(_layers(model, export, found, lite, tensorflow[1], scratch))
        tell(" latency")
        for model, (export, found) in zip(models, files.items(), strict=True):
            running = latency.contenders(found, lite, threads)
            running += [latency.tensorflow_contender(export, guard, n) for n, guard in tensorflow.items()]
            latency.measure(running, rounds=effort.rounds, seconds=effort.seconds)
            _sort_in(model, running)
            tell(".")
        tell(" service")
        served = [e for e in exports if any(f.variant == VARIANT and not f.error for f in files[e])]
        costs = service_costs(served, rounds=effort.service_rounds, seconds=effort.service_seconds, tell=tell)
        for model in models:
            model["service"] = costs.get(model["model"])
            model["recommended"] = recommend(model["variants"])
    print(flush=True)
    return models


def _made_standin() -> Export:
    """The stand-in, made by a process of its own, which tells how far it is."""
    done = subprocess.run([sys.executable, "-m", "lite.standin"], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise ModelError(
            f"the stand-in {standin.NAME} could not be made ({said[-1] if said else done.returncode}); "
            "leave it out with --models"
        )
    return Export(standin.standin_root(), standin.NAME, 1)


def _is_standin(export: Export) -> bool:
    return export.root == standin.standin_root()


def _open_tensorflow(guard: Guard, exports: Sequence[Export]) -> None:
    """A model that TensorFlow cannot load falls out where it is timed."""
    try:
        for export in exports:
            guard.call("open", export, timeout=TENSORFLOW_STARTS)
    except TargetError:
        return


def _model(export: Export, files: Sequence[LiteFile], lite: Guard) -> dict[str, Any]:
    variants = [_row(file, lite) for file in files]
    tell(".")
    calibration = export.lite("int8").with_name("calibration.json")
    metric = next((row["quality"]["metric"] for row in variants if row["quality"] and row["quality"]["metric"]), None)
    return {
        "model": export.model,
        "version": export.version,
        "source_sha256": export.sha256,
        "stand_in": _is_standin(export),
        "task": export.spec.task,
        "metric": metric and {"name": metric["name"], "reference": metric["reference"]},
        "variants": variants,
        "tensorflow": [],
        "layers": [],
        "calibration": read_json(calibration)["points"] if calibration.is_file() else None,
        "service": None,
        "recommended": [],
    }


def _row(file: LiteFile, lite: Guard) -> dict[str, Any]:
    found: dict[str, Any] = {"quality": None, "trouble": None}
    if not file.error:
        try:
            found["quality"] = lite.call("quality", file.export, file.variant, timeout=ASKED)
            if _is_standin(file.export):
                found["quality"] |= {"verdict": "info", "reason": "random weights: its answers are told, not judged"}
        except TargetError as error:
            found["trouble"] = str(error)
    said = file.description
    row = {
        "variant": file.variant,
        "signature": said["signature"],
        "judged_by": "decision" if limits_for(file.variant).tolerance is None else "tolerance",
        "any_batch": file.serves_any_batch,
        "error": file.error,
        "sha256": said["sha256"],
        "bytes": said["bytes"],
        "gzip_bytes": file.gzip_bytes,
        "ops": said["ops"],
        "float_islands": said["float_islands"],
        "recurrent": said["recurrent"],
        "compression": said.get("compression"),
        **found,
        "memory": None,
        "latency": [],
    }
    return {**row, "full_integer": is_full_integer(row)}


def _memory(models: Sequence[dict[str, Any]], files: dict[Export, list[LiteFile]], repeats: int) -> None:
    """Two processes at a time: memory, unlike time, does not mind company."""
    empty = memory.peak_bytes(None, repeats=repeats)

    def fill(row: dict[str, Any], file: LiteFile) -> None:
        try:
            peak = memory.peak_bytes(file.path, repeats=repeats)
            row["memory"] = {"peak_bytes": peak, "own_bytes": max(0, peak - empty), "error": None}
        except TargetError as error:
            row["memory"] = {"peak_bytes": None, "own_bytes": None, "error": str(error)}

    with ThreadPoolExecutor(2) as pool:
        for model, found in zip(models, files.values(), strict=True):
            rows = [(row, file) for row, file in zip(model["variants"], found, strict=True) if not file.error]
            list(pool.map(lambda pair: fill(*pair), rows))
            tell(".")


def _layers(
    model: dict[str, Any], export: Export, files: Sequence[LiteFile], lite: Guard, tensorflow: Guard, scratch: Path
) -> Iterator[dict[str, Any]]:
    """The ranking for the variants that are furthest off, int8 always among them."""
    by_name = {file.variant: file for file in files}
    for row in worst_rows(model["variants"]):
        file = by_name[row["variant"]]
        found: dict[str, Any] = {
            "variant": row["variant"],
            "signature": row["signature"],
            "note": layers.FUSED if "UNIDIRECTIONAL_SEQUENCE_LSTM" in row["ops"] else "",
            "rows": layers.ROWS,
            "tensors": [],
            "ranking": [],
            "first_jump": None,
            "error": None,
        }
        form = "fused" if row["recurrent"] == "fused" else "unrolled"
        float_file = scratch / f"{export.model}-{row['signature']}-{form}.tflite"
        try:
            if not float_file.is_file():
                tensorflow.call("float_graph", export, row["signature"], form, float_file, timeout=TENSORFLOW_STARTS)
            errors = lite.call("layers", export, file.variant, float_file, timeout=ASKED)
            jump = layers.first_jump(errors)
            found["tensors"] = [{**asdict(e), "added": e.added} for e in errors]
            found["ranking"] = [e.place for e in layers.ranked(errors)]
            found["first_jump"] = jump.place if jump else None
        except TargetError as error:
            found["error"] = str(error)
        tell(".")
        yield found


def worst_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The variants that rounding puts furthest off in raw units, and int8.

    Not in steps of their outputs, which are 256 times finer in an int16 file. Left out are those judged by a tolerance,
    which round little, and those trained further, whose distance is training and rounding together.
    """
    judged = [r for r in rows if r["quality"] and r["quality"]["max_abs"] is not None]
    judged = [r for r in judged if r["judged_by"] == "decision" and not r["any_batch"] and not r["compression"]]
    judged.sort(key=lambda r: -r["quality"]["max_abs"])
    return judged[:WORST] + [r for r in judged[WORST:] if r["variant"] == "int8"]


def _sort_in(model: dict[str, Any], running: Sequence[latency.Contender]) -> None:
    rows = {row["variant"]: row for row in model["variants"]}
    for contender in running:
        place = rows[contender.variant]["latency"] if contender.variant else model["tensorflow"]
        place.append(contender.to_json())
