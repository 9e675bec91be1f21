"""What goes into the archive for a device, and that it is the same archive each time."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from deploy import bundle, wheels
from deploy.bundle import NAME, make_bundle, write_archive
from deploy.wheels import MACHINES, Pin, fetch_wheels, read_lock
from edge.runtime import LiteModel
from models.artifacts import REPOSITORY
from models.errors import ArtifactError, DeployError

if TYPE_CHECKING:
    from pathlib import Path

    from export.bundle import Export

LOCK = REPOSITORY / "edge" / "requirements.txt"


@pytest.mark.parametrize(
    ("arch", "python", "there", "absent"),
    [
        ("aarch64", "3.11", {"ai-edge-litert==2.3.0", "numpy==2.4.6"}, {"tflite-runtime", "colorama"}),
        ("aarch64", "3.13", {"ai-edge-litert==2.3.0", "numpy==2.5.5"}, {"tflite-runtime", "colorama"}),
        ("armv7l", "3.11", {"tflite-runtime==2.14.0"}, {"ai-edge-litert", "numpy", "protobuf"}),
    ],
)
def test_lock_is_read_as_that_machine_would(arch: str, python: str, there: set[str], absent: set[str]):
    pins = read_lock(LOCK, MACHINES[arch], python)
    found = {pin.requirement for pin in pins}
    assert there <= found
    assert absent.isdisjoint({name.partition("==")[0] for name in found})
    assert {"flask", "granian", "pip"} <= {name.partition("==")[0] for name in found}
    assert all(pin.hashes for pin in pins)


def test_wheel_that_does_not_exist_is_one_sentence(tmp_path: Path):
    pip = [str(bundle.PIP), "-m", "pip", "--isolated"]
    with pytest.raises(
        DeployError, match=r"no wheel of nothing==1 for armv7l with CPython 3.11 could be fetched \(pip: .*\); check"
    ):
        fetch_wheels([Pin("nothing==1", frozenset({"0" * 64}))], MACHINES["armv7l"], "3.11", pip=[*pip, "--no-index"], folder=tmp_path)  # fmt: skip


def test_archive_of_the_same_content_is_the_same_bytes(tmp_path: Path):
    contents = {"b/x.txt": b"x", "install.sh": b"#!/bin/sh\n", "a": b""}
    write_archive(tmp_path / "one.tar.gz", contents)
    write_archive(tmp_path / "two.tar.gz", dict(reversed(contents.items())))
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        members = archive.getmembers()
    assert [m.name for m in members] == [f"{NAME}/a", f"{NAME}/b/x.txt", f"{NAME}/install.sh"]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}
    assert [m.mode for m in members] == [0o644, 0o644, 0o755]


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch):
    """Without them a bundle needs no network; that they fit is shown by installing one (test_install.py)."""
    monkeypatch.setattr(bundle, "fetch_wheels", lambda *_, **__: [])


def unpack(path: Path, to: Path) -> Path:
    with tarfile.open(path) as archive:
        archive.extractall(to, filter="data")
    return to / NAME


@pytest.mark.usefixtures("no_wheels")
def test_bundle_holds_models_inputs_and_sums(
    artifacts_copy: Path, tmp_path: Path, exports: dict[tuple[str, int], Export]
):
    path = make_bundle("aarch64", models=["cnn", "lstm"], variants=["int8", "float32"])
    assert path == artifacts_copy / "edge" / f"{NAME}-aarch64.tar.gz"
    first = path.read_bytes()
    assert make_bundle("aarch64", models=["cnn", "lstm"], variants=["int8", "float32"]).read_bytes() == first
    root = unpack(path, tmp_path)
    sums = dict(reversed(line.split("  ")) for line in (root / "SHA256SUMS").read_text().splitlines())
    files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert files == {*sums, "SHA256SUMS"}
    assert all(hashlib.sha256((root / name).read_bytes()).hexdigest() == sha for name, sha in sums.items())
    assert {"install.sh", f"{NAME}.service", "edge/app.py", "edge/pyproject.toml", "edge/requirements.txt"} <= files
    assert {"wheels/requirements-aarch64-cp311.txt", "wheels/requirements-aarch64-cp313.txt"} <= files
    assert {p.name for p in (root / "models").iterdir()} == {"cnn", "lstm"}
    for model in ("cnn", "lstm"):
        for version in (1, 2):
            evidence = exports[model, version].evidence
            with np.load(root / "inputs" / model / f"{version}.npz") as inputs:
                assert {key.split("/")[0] for key in inputs} == {case.kind for case in evidence.cases()}
                rows = {key.removeprefix("test/"): inputs[key] for key in inputs if key.startswith("test/")}
            answers = LiteModel(root / "models" / model / str(version) / "float32.tflite").predict(rows)
            expected = LiteModel(exports[model, version].lite("float32")).predict(evidence.cases()[0].inputs)
            assert all(np.array_equal(answers[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("no_wheels")
def test_bundle_leaves_out_what_cannot_be_converted_and_says_so(
    artifacts_copy: Path, capsys: pytest.CaptureFixture[str]
):
    description = artifacts_copy / "lite" / "cnn" / "1" / "float32.json"
    description.write_text(
        json.dumps(json.loads(description.read_text()) | {"error": "no such operator", "sha256": None})
    )
    make_bundle("armv7l", models=["cnn"], variants=["float32"])
    assert "left out: float32 of cnn version 1: no such operator" in capsys.readouterr().out
    with tarfile.open(artifacts_copy / "edge" / f"{NAME}-armv7l.tar.gz") as archive:
        models = [name for name in archive.getnames() if name.endswith(".tflite")]
    assert models == [f"{NAME}/models/cnn/2/float32.tflite"]


@pytest.mark.usefixtures("no_wheels")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "cannot go into the bundle: .* truncated or exchanged"),
        ("missing", "cannot go into the bundle: .* is missing"),
        ("older", "int8 of cnn version 1 was converted from an earlier export; run `make convert`"),
    ],
)
def test_bundle_of_a_file_that_is_not_current_is_refused(artifacts_copy: Path, damage: str, message: str):
    model = artifacts_copy / "lite" / "cnn" / "1" / "int8.tflite"
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[:100])
    elif damage == "missing":
        model.unlink()
    else:
        description = model.with_suffix(".json")
        description.write_text(json.dumps(json.loads(description.read_text()) | {"source_sha256": "0"}))
    with pytest.raises(ArtifactError, match=message):
        make_bundle("aarch64", models=["cnn"], variants=["int8"])
    assert not (artifacts_copy / "edge").exists()


def test_bundle_for_an_unknown_machine_names_those_there_are():
    with pytest.raises(DeployError, match=r"ARCH=riscv64 is no machine .* use aarch64, armv7l, x86_64"):
        make_bundle("riscv64")
    assert set(wheels.MACHINES) == {"aarch64", "armv7l", "x86_64"}


@pytest.fixture
def artifacts_copy(tmp_path: Path, exports: dict[tuple[str, int], Export], monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a bundle is made from, for a test to damage; the bundle is written there too."""
    root = next(iter(exports.values())).root
    for name in ("evidence", "lite"):
        shutil.copytree(root / name, tmp_path / "artifacts" / name)
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"
