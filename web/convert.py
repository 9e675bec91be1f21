"""SavedModel → TF.js, for every model and version that is out of date; `python -m web.convert`.

Runs in the root environment, decides by fingerprint and imports no TensorFlow. Only when something is stale it starts
the converter's own environment once (``web/converter``), for all models together. Also writes the page's samples.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.bundle import Export, find_exports
from models.artifacts import (
    REPOSITORY,
    artifacts_root,
    fingerprint,
    is_current,
    read_json,
    sweep,
    write_json,
    write_whole,
)
from models.errors import ArtifactError, run_cli
from web.samples import write_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIANT = "float32"
VARIANTS = (VARIANT, "float16", "uint8")  # how the weights are stored; the browser computes in float32 all the same
LEAST_VALUES = 64  # of a weight that is rounded; the constants of a normalisation are small, and would not bear it
CONVERTER = REPOSITORY / "web" / "converter"
RECIPE = [CONVERTER / "convert.py", CONVERTER / "requirements.txt", Path(__file__)]


class ConversionFailed(Exception):
    """The converter's reason, in plain words."""


def converter_python() -> Path:
    """The converter environment's interpreter; CONVERTER_PYTHON overrides it. It may be missing."""
    return Path(os.environ.get("CONVERTER_PYTHON") or CONVERTER / ".venv" / "bin" / "python")


def missing_converter() -> str | None:
    """Why nothing can be converted here, with the remedy, or None."""
    python, skipped = converter_python(), CONVERTER / ".skipped"
    if python.exists():
        return None
    if skipped.is_file():  # the set-up's own reason
        return f"the TF.js converter's environment is missing: {skipped.read_text().strip()}"
    return (
        f"the TF.js converter's environment is missing ({python}); it needs Python 3.11 or 3.12: "
        "run `uv python install 3.11`, then `make setup`"
    )


def signature_of(export: Export) -> str:
    """The one-row signature of our own exports; of a user's model the signature that was taken."""
    if brought := export.description.get("brought"):
        return str(brought["signature"])
    return "static" if "static" in export.description["signatures"] else "serving_default"


def description_json(export: Export, variant: str = VARIANT) -> Path:
    return export.web(variant).with_name(f"{variant}.json")


def made_from(export: Export, variant: str = VARIANT) -> str:
    return fingerprint(
        [*RECIPE, export.saved_model / "saved_model.pb"], extra=f"{export.sha256} {signature_of(export)} {variant}"
    )


def stale(exports: list[Export]) -> list[Export]:
    """Those of which a graph model was made from something else, or is missing though no error says why."""
    return [e for e in exports if any(_is_stale(e, variant) for variant in VARIANTS)]


def _is_stale(export: Export, variant: str) -> bool:
    described = description_json(export, variant)
    if not is_current(described, made_from(export, variant)):
        return True
    return not read_json(described)["error"] and not (export.web(variant) / "model.json").is_file()


def refused_before_conversion(export: Export) -> str | None:
    strings = [t.name for t in export.spec.inputs if t.dtype == "string"]
    if strings:
        return f"input {strings[0]!r} takes strings; a TF.js graph model takes numbers only"
    return None


def convert_all(exports: list[Export]) -> list[Export]:
    """Convert what is stale; returns what was converted. A refused model leaves its reason in ``<variant>.json``."""
    todo = stale(exports)
    if not todo:
        return []
    sweep(artifacts_root() / "web")
    with Converter(artifacts_root() / "web" / "converter.log") as converter:
        for export in todo:
            start = time.monotonic()
            errors = [convert_one(export, variant, converter) for variant in VARIANTS]
            label = f"  {export.model} {export.version}"
            error = next(filter(None, errors), None)
            print(f"{label}: {error}" if error else f"{label}: {time.monotonic() - start:.1f} s", flush=True)
    return todo


def convert_one(export: Export, variant: str, converter: Converter) -> str | None:
    """One graph model and its description. The description goes first and comes last: it says that all is there."""
    description_json(export, variant).unlink(missing_ok=True)
    folder = export.web(variant)
    error = refused_before_conversion(export)
    names: list[str] = []
    source: dict[str, Any]
    if not error and variant != VARIANT:
        error = read_json(description_json(export))["error"]  # float32 is converted first
        names = [] if error else large_weights(export)
        error = error or (None if names else f"no weight has {LEAST_VALUES} values or more; {VARIANT} is all there is")
    if not error:
        try:
            with write_whole(folder) as temporary:
                if variant == VARIANT:
                    source = {"saved_model": str(export.saved_model), "signature": signature_of(export)}
                else:
                    source = {"graph_model": str(export.web(VARIANT)), "weights": variant, "names": names}
                converter.convert(source | {"out": str(temporary)})
        except ConversionFailed as failure:
            error = str(failure)
    if error:
        shutil.rmtree(folder, ignore_errors=True)
    size, sha256 = (None, None) if error else weigh(folder)
    description: dict[str, Any] = {
        "schema": 1,
        "model": export.model,
        "version": export.version,
        "variant": variant,
        "source_sha256": export.sha256,
        "signature": signature_of(export),
        "bytes": size,
        "sha256": sha256,
        "error": error,
        "made_from": made_from(export, variant),
    }
    write_json(description_json(export, variant), description)
    return error


def large_weights(export: Export) -> list[str]:
    """The names of the float32 weights with two axes or more that make up the size of the graph model."""
    manifest = read_json(export.web(VARIANT) / "model.json")["weightsManifest"]
    weights = [weight for group in manifest for weight in group["weights"]]
    return [
        weight["name"]
        for weight in weights
        if weight["dtype"] == "float32" and len(weight["shape"]) > 1 and math.prod(weight["shape"]) >= LEAST_VALUES
    ]


def weigh(folder: Path) -> tuple[int, str]:
    """Size in bytes of a folder's files, and a sha256 over their names and contents."""
    digest, size = hashlib.sha256(), 0
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        size += len(data)
        digest.update(f"{file.name}\0{hashlib.sha256(data).hexdigest()}\0".encode())
    return size, digest.hexdigest()


class Converter:
    """The converter's process, started at the first use; a crash costs one model, not the others."""

    def __init__(self, log: Path) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._log = log

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def convert(self, request: dict[str, Any]) -> None:
        """What ``converter/convert.py`` reads as one line. Raises ConversionFailed with the converter's reason."""
        process = self._process or self._start()
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        reply = self._reply(process)
        if reply is None:
            self._stop()
            self._process = None
            raise ConversionFailed(
                f"the TF.js converter's process ended with code {process.returncode}; its output is in {self._log}"
            )
        if reply["error"]:
            raise ConversionFailed(reply["error"])

    def _start(self) -> subprocess.Popen[str]:
        print("starting the TF.js converter ...", flush=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("w") as log:
            process = subprocess.Popen(
                [converter_python(), "-u", CONVERTER / "convert.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=REPOSITORY,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""},
            )
        self._process = process
        if self._reply(process) is None:
            code = process.wait()
            raise ArtifactError(
                f"the TF.js converter does not start (code {code}); see {self._log}, or delete {CONVERTER / '.venv'} "
                "and run `make deploy-all` to install it again"
            )
        return process

    @staticmethod
    def _reply(process: subprocess.Popen[str]) -> dict[str, Any] | None:
        assert process.stdout
        line = process.stdout.readline()
        return json.loads(line) if line else None

    def _stop(self) -> None:
        if process := self._process:
            assert process.stdin
            assert process.stdout
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def wanted() -> list[str] | None:
    names = [name.strip() for name in os.environ.get("MODELS", "").split(",") if name.strip()]
    return names or None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m web.convert", description="SavedModel to TF.js, what is out of date."
    )
    parser.parse_args(argv)
    exports = find_exports(models=wanted())
    if not exports:
        raise ArtifactError(f"no exports below {artifacts_root()}; run `make deploy-all` to build them")
    for export in exports:
        write_samples(export)
    if stale(exports) and (reason := missing_converter()):
        print(f"TF.js: nothing converted, its targets are skipped: {reason}")
        return
    done = convert_all(exports)
    print(f"TF.js: {len(done)} converted, {len(exports) - len(done)} current, in {artifacts_root() / 'web'}")


if __name__ == "__main__":
    run_cli(main)
