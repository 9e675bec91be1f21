"""The edge bundle on an emulated ARM machine: the same answers, from the files and from the service.

`make test` runs all of it but the emulator: in its place, this machine's own Python runs the bundle. In `make test-all`
the emulator and an ARM machine's Python are fetched the first time; where they cannot be had, the tests are skipped and
say why.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from compare.arm.debian import CannotEmulate
from compare.arm.emulator import Emulator, find_emulator
from compare.arm.judging import difference, limit_for
from compare.arm.machine import KINDS, ArmMachine
from compare.arm.run import ArmRun, run
from compare.imported import read_bench, rows_of
from deploy import bundle
from edge.answers import record_answers
from edge.runtime import LiteModel
from models.artifacts import REPOSITORY, artifacts_root

if TYPE_CHECKING:
    from export.bundle import Export


def run_or_skip(arch: str, **what: Any) -> ArmRun:
    try:
        return run(arch, **what)
    except CannotEmulate as error:
        pytest.skip(f"{arch} cannot be emulated here: {error}")


def still_running() -> list[str]:
    """Command lines of what was started from the emulated machines' folders."""
    lines = [line.read_bytes().decode(errors="replace").replace("\0", " ") for line in _command_lines()]
    return [line for line in lines if str(artifacts_root() / "arm") in line]


def _command_lines() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_int8_and_the_service_answer_on_aarch64_bit_for_bit_as_here(
    exports: dict[tuple[str, int], Export], tmp_path: Path
):
    result = run_or_skip("aarch64", models=["cnn"], variants=["int8"], versions="newest")
    check_int8_of_the_cnn(result, exports["cnn", 2], tmp_path, machine="aarch64")
    assert still_running() == []


@pytest.fixture
def native_machine(
    exports: dict[tuple[str, int], Export], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ArmMachine:
    """Laid out as an emulated one, today's bundle in it; its Python is this machine's, which needs no wheels for ARM."""
    root = tmp_path / "artifacts"
    root.mkdir()
    for name in ("evidence", "lite"):
        (root / name).symlink_to(exports["cnn", 2].root / name)
    monkeypatch.setenv("ARTIFACTS", str(root))
    monkeypatch.setattr(bundle, "fetch_wheels", lambda *_, **__: [])
    archive = bundle.make_bundle("aarch64", models=["cnn"], variants=["int8"])
    python = REPOSITORY / "edge" / ".venv" / "bin" / "python"
    machine = ArmMachine(KINDS["aarch64"], Emulator(python, "none, this processor"), root / "arm" / "aarch64")
    with tarfile.open(archive) as content:
        content.extractall(machine.bundle.parent, filter="data")
    command = Path(*machine.command())
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    command.chmod(0o755)
    return machine


@pytest.mark.slow
def test_int8_and_the_service_answer_bit_for_bit_where_nothing_is_emulated(
    native_machine: ArmMachine,
    exports: dict[tuple[str, int], Export],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("compare.arm.run.make_machine", lambda *_, **__: native_machine)
    result = run("aarch64", models=["cnn"], variants=["int8"], versions="newest")
    check_int8_of_the_cnn(result, exports["cnn", 2], tmp_path, machine=platform.machine())
    # One that is stopped by a signal costs its row, and says which.
    Path(*native_machine.command()).write_text("#!/bin/sh\nkill -ILL $$\n")
    [row] = run("aarch64", models=["cnn"], variants=["int8"], versions="newest").rows
    assert (row.verdict, row.reason, row.good) == ("differs", "crashed with signal 4", False)


def check_int8_of_the_cnn(result: ArmRun, export: Export, folder: Path, *, machine: str) -> None:
    [row] = result.rows
    assert row.found is not None
    assert row.found.rows == sum(case.rows for case in export.evidence.cases())
    assert (row.verdict, row.found.differing, row.found.steps) == ("same bits", 0, 0)
    assert row.http == "ok"
    # What it wrote is a device's benchmark as any other, and its times are marked.
    (folder / "arm.json").write_text(json.dumps(result.bench))
    bench = read_bench(folder / "arm.json")
    assert bench["emulated"] == result.emulator
    assert bench["device"]["machine"] == machine
    [judged], left_out = rows_of(bench, [export])
    assert not left_out
    assert judged.verdict.verdict == "pass"
    assert "emulated" in judged.verdict.reason


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("arch", ["aarch64", "armv7l"])
def test_every_file_answers_on_arm_as_here(arch: str):
    result = run_or_skip(arch, models=[], variants=["int8", "float32"], versions="all")
    assert len(result.rows) == 16
    assert [row for row in result.rows if not row.good] == []
    assert still_running() == []


@pytest.fixture(scope="module")
def recorded(exports: dict[tuple[str, int], Export]) -> dict[str, Any]:
    """What this machine answers with the int8 cnn, as `edge bench` writes it."""
    export = exports["cnn", 2]
    kinds = {case.kind: case.inputs for case in export.evidence.cases()}
    return record_answers(LiteModel(export.lite("int8")), kinds)


@pytest.mark.parametrize("field", ["outputs", "raw_outputs"])
def test_one_other_bit_is_a_difference(recorded: dict[str, Any], field: str):
    tampered = copy.deepcopy(recorded)
    told = tampered[field]["test"]["probabilities"]
    content = bytearray(base64.b64decode(told["base64"]))
    content[-1] ^= 1
    told["base64"] = base64.b64encode(content).decode()
    limit = limit_for("aarch64", "cnn", "int8")
    assert limit.passes(difference(recorded, recorded))
    found = difference(tampered, recorded)
    assert found.differing == 1
    assert not limit.passes(found)


def test_float_answers_are_held_to_their_error(recorded: dict[str, Any]):
    limit = limit_for("aarch64", "cnn", "float32")
    for added, passes in ((1e-6, True), (1e-4, False)):
        other = copy.deepcopy(recorded)
        told = other["outputs"]["test"]["probabilities"]
        values = np.frombuffer(base64.b64decode(told["base64"]), np.float32) + np.float32(added)
        told["base64"] = base64.b64encode(values.tobytes()).decode()
        assert limit.passes(difference(other, recorded)) is passes


@pytest.mark.parametrize("field", ["sha256", "inputs_sha256"])
def test_answers_of_another_file_or_to_other_rows_are_not_compared(recorded: dict[str, Any], field: str):
    with pytest.raises(ValueError, match=f"not asked the same: {field}"):
        difference({**recorded, field: "0" * 64}, recorded)


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with an old emulator alone: one that only knows its version, the real one crashes in XNNPACK's kernels."""
    old = tmp_path / "bin" / "qemu-aarch64"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho qemu-aarch64 version 7.2.19\n")
    old.chmod(0o755)
    return old.parent


def test_old_emulator_is_not_used(bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(bare_path))
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "artifacts"))
    with pytest.raises(CannotEmulate, match=r"no qemu-user 10 or newer \(here is 7\.2\.19\), and it cannot be fetched"):
        find_emulator("qemu-aarch64")


def test_command_without_an_emulator_says_why_and_ends_well(bare_path: Path, tmp_path: Path):
    environment = {**os.environ, "PATH": str(bare_path), "ARTIFACTS": str(tmp_path / "artifacts")}
    done = subprocess.run(
        [sys.executable, "-m", "compare.arm"],
        cwd=REPOSITORY,
        env={**environment, "REPORTS": str(tmp_path / "reports")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for arch in ("aarch64", "armv7l"):
        assert f"{arch}: skipped: no qemu-user 10 or newer" in done.stdout
    assert json.loads((tmp_path / "reports" / "arm.json").read_text())["skipped"].keys() == {"aarch64", "armv7l"}


def test_unknown_machine_is_one_sentence():
    done = subprocess.run(
        [sys.executable, "-m", "compare.arm", "--arch", "mips"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "error: ARCH=mips is no machine that can be emulated; use aarch64, armv7l\n"
