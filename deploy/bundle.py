"""``make edge-bundle``: one archive with all that a device needs: service, wheels, models, a way to install them.

    export-once-edge/
        install.sh, export-once-edge.service    edge/DEVICE.md says how they are used
        edge/                                   the package's source, with its lock
        wheels/*.whl                            everything the lock asks for there; requirements-<arch>-<cpXY>.txt: their hashes
        models/<model>/<version>/<variant>.tflite + .json
        inputs/<model>/<version>.npz            the evidence's rows of serving_default, <kind>/<tensor>: what `edge bench` asks
        SHA256SUMS

The same content gives the same bytes: sorted, without times, owners or this machine's names.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import tarfile
from typing import TYPE_CHECKING

import numpy as np

from deploy.environments import REPOSITORY
from deploy.wheels import MACHINES, fetch_wheels, read_lock
from edge.errors import ModelFileError
from edge.runtime import read_description, read_model
from export.bundle import Export, find_exports
from models.artifacts import artifacts_root, write_whole
from models.errors import ArtifactError, DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME = "export-once-edge"
ARCH = "aarch64"  # 64-bit Raspberry Pi OS
VARIANTS = ("int8", "float32")
EDGE = REPOSITORY / "edge"
PIP = EDGE / ".venv" / "bin" / "python"  # its lock has pip

Contents = dict[str, bytes]


def make_bundle(arch: str = ARCH, *, models: Sequence[str] | None = None, variants: Sequence[str] = VARIANTS) -> Path:
    """Make the archive for one kind of machine; returns its path. Raises DeployError, ModelError or ArtifactError."""
    if arch not in MACHINES:
        raise DeployError(f"ARCH={arch} is no machine that there are bundles for; use {', '.join(MACHINES)}")
    exports = find_exports(models=models)
    if not exports:
        raise DeployError("there is no model to bundle; run `make convert`")
    contents = _package() | _wheels(arch)
    for export in exports:
        for variant in variants:
            contents |= _model(export, variant)
        contents[f"inputs/{export.model}/{export.version}.npz"] = _inputs(export)
    contents["SHA256SUMS"] = _sums(contents)
    path = artifacts_root() / "edge" / f"{NAME}-{arch}.tar.gz"
    with write_whole(path) as temporary:
        write_archive(temporary, contents)
    return path


def write_archive(path: Path, contents: Contents) -> None:
    """A .tar.gz of ``contents`` in one folder; times are 0, owners root."""
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in sorted(contents.items()):
            entry = tarfile.TarInfo(f"{NAME}/{name}")
            entry.size, entry.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(content))


def _package() -> Contents:
    """The room's own files: what its image copies too."""
    paths = [
        *EDGE.glob("*.py"),
        *(EDGE / name for name in ("pyproject.toml", "requirements.txt", "README.md", "DEVICE.md")),
    ]
    contents = {f"edge/{path.name}": path.read_bytes() for path in paths}
    contents |= {name: (EDGE / name).read_bytes() for name in ("install.sh", f"{NAME}.service")}
    contents["LICENSE"] = (REPOSITORY / "LICENSE").read_bytes()
    return contents


def _wheels(arch: str) -> Contents:
    """The wheels for every Python of that machine, and for each Python the lock without markers.

    pip would judge those by the kernel, which is a 64-bit one under many a 32-bit system.
    """
    if not PIP.exists():
        raise DeployError(f"{PIP} is missing; run `make setup`")
    machine, contents = MACHINES[arch], {}
    for python in machine.pythons:
        pins = read_lock(EDGE / "requirements.txt", machine, python)
        folder = artifacts_root() / "edge" / "wheels" / f"{arch}-{python}"
        for wheel in fetch_wheels(pins, machine, python, pip=[str(PIP), "-m", "pip"], folder=folder):
            contents[f"wheels/{wheel.name}"] = wheel.read_bytes()
        tag = f"cp{python.replace('.', '')}"
        contents[f"wheels/requirements-{arch}-{tag}.txt"] = "".join(f"{pin.line()}\n" for pin in pins).encode()
    return contents


def _model(export: Export, variant: str) -> Contents:
    """The .tflite and its json; nothing where the converter said why there is none.

    Raises ArtifactError for a file that is missing, damaged, or older than the export.
    """
    path = export.lite(variant)
    label = f"{variant} of {export.model} version {export.version}"
    try:
        if reason := read_description(path.with_suffix(".json"))["error"]:
            print(f"left out: {label}: {reason}", flush=True)
            return {}
        description, content = read_model(path)
    except ModelFileError as error:
        raise ArtifactError(f"{label} cannot go into the bundle: {error}") from error
    if description["source_sha256"] != export.sha256:
        raise ArtifactError(f"{label} was converted from an earlier export; run `make convert`")
    folder = f"models/{export.model}/{export.version}"
    return {
        f"{folder}/{variant}.tflite": content,
        f"{folder}/{variant}.json": path.with_suffix(".json").read_bytes(),
    }


def _inputs(export: Export) -> bytes:
    buffer = io.BytesIO()
    arrays = {f"{case.kind}/{name}": array for case in export.evidence.cases() for name, array in case.inputs.items()}
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _sums(contents: Contents) -> bytes:
    """As ``sha256sum -c`` reads it."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(contents.items())]
    return "".join(lines).encode()


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.bundle", description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default=ARCH, help=f"{', '.join(MACHINES)} (default: {ARCH})")
    parser.add_argument("--variants", type=names, default=VARIANTS, help=f"default: {','.join(VARIANTS)}")
    options = parser.parse_args(argv)
    models = names(os.environ.get("MODELS", ""))  # the same setting as for every other step of the line
    path = make_bundle(options.arch, models=models or None, variants=options.variants)
    print(f"bundle: {path}, {path.stat().st_size / 1e6:.0f} MB, for {options.arch}")


if __name__ == "__main__":
    run_cli(main)
