"""``lite-*`` and ``edge-http``: the same answers, true facts, and sentences where something is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from compare.target import find_target
from compare.targets.edge import COMMAND, NUMBER_BYTES
from export.bundle import Export
from models.artifacts import REPOSITORY, sha256_file
from models.errors import ArtifactError, TargetError
from tests.conftest import pick_free_port
from tests.edge.service import Service, start_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LITE = ["lite-float32", "lite-float16", "lite-dynamic", "lite-int8"]


@pytest.fixture(scope="module")
def service(exports: dict[tuple[str, int], Export]) -> Iterator[Service]:
    if not COMMAND.is_file():
        pytest.fail(f"{COMMAND} is missing: run `make setup` first")
    with start_service(next(iter(exports.values())).root / "lite") as running:
        yield running


@pytest.fixture
def edge_port(service: Service, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("EDGE_PORT", str(service.port))
    return service.port


def some_rows(export: Export, rows: int = 3) -> dict[str, np.ndarray]:
    return {name: values[:rows] for name, values in export.evidence.cases()[0].inputs.items()}


@pytest.mark.parametrize("name", LITE)
def test_lite_target_states_the_file_it_ran(exports: dict[tuple[str, int], Export], name: str):
    export, target = exports["cnn", 2], find_target(name)
    assert target.unsupported(export, "serving_default") is None
    with target, target.open(export) as session:
        answers = session.predict(some_rows(export))
        facts = session.facts()
    reference = export.evidence.cases()[0].outputs["probabilities"][:3]
    assert np.abs(answers["probabilities"] - reference).max() < 0.2
    assert facts["artifact_sha256"] == sha256_file(export.lite(target.variant))
    assert facts["artifact_bytes"] == export.lite(target.variant).stat().st_size
    assert facts["accelerator"] == "XNNPACK"


def test_edge_target_answers_as_the_same_file_in_process(exports: dict[tuple[str, int], Export], edge_port: int):
    edge, lite = find_target("edge-http"), find_target("lite-int8")
    assert edge.unavailable() is None
    for export in exports.values():
        assert edge.unsupported(export, "serving_default") is None
        with edge.open(export) as over_http, lite.open(export) as in_process:
            inputs = some_rows(export)
            expected = in_process.predict(inputs)
            for _ in range(2):
                answers = over_http.predict(inputs)
                for name, answer in answers.items():
                    assert answer.dtype == expected[name].dtype
                    np.testing.assert_array_equal(answer, expected[name])
            facts = over_http.facts()
            assert facts["artifact_sha256"] == in_process.facts()["artifact_sha256"]
            assert psutil.pid_exists(facts["pid"])  # type: ignore[arg-type]
    with edge.open(exports["cnn", 2]) as session, pytest.raises(TargetError, match="holds NaN or infinity"):
        session.predict({"image": np.full((1, 8, 8, 1), np.nan, np.float32)})


def test_edge_target_sends_a_long_batch_in_pieces(
    exports: dict[tuple[str, int], Export], edge_port: int, monkeypatch: pytest.MonkeyPatch
):
    export = exports["cnn", 2]
    with find_target("edge-http").open(export) as session:
        whole = session.predict(some_rows(export, 7))
        monkeypatch.setattr("compare.targets.edge.BODY_BYTES", 3 * 64 * NUMBER_BYTES)
        in_pieces = session.predict(some_rows(export, 7))
    np.testing.assert_array_equal(in_pieces["probabilities"], whole["probabilities"])


def test_edge_target_measures_its_cold_start_on_an_instance_of_its_own(
    exports: dict[tuple[str, int], Export], edge_port: int, service: Service
):
    export = exports["cnn", 2]
    seconds = find_target("edge-http").cold_start(export, some_rows(export, 1))
    assert seconds is not None
    assert seconds > 0.05  # no process starts faster
    assert service.client.get("/healthz").status_code == 200


def test_edge_target_without_service_names_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGE_PORT", str(pick_free_port()))
    assert "start it with `make deploy-all`" in (find_target("edge-http").unavailable() or "")


def test_targets_of_a_failed_conversion_give_the_converter_s_reason(
    exports: dict[tuple[str, int], Export], tmp_path: Path
):
    export = copied(exports["mlp", 2], tmp_path)
    path = export.lite("int8").with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"error": "TFLite has no built-in operator for X"}))
    target = find_target("lite-int8")
    assert target.unsupported(export, "serving_default") == "TFLite has no built-in operator for X"
    assert "answers serving_default, not 'core'" in (target.unsupported(export, "core") or "")


def test_lite_target_refuses_a_missing_or_outdated_file(exports: dict[tuple[str, int], Export], tmp_path: Path):
    export = copied(exports["mlp", 2], tmp_path)
    target = find_target("lite-float32")
    described = json.loads(export.evidence_json.read_text())
    export.evidence_json.write_text(json.dumps(described | {"sha256": "another"}))
    with pytest.raises(ArtifactError, match="made from an older export of mlp; run `make deploy-all`"):
        target.open(Export(tmp_path, "mlp", 2))
    shutil.rmtree(tmp_path / "lite")
    with pytest.raises(ArtifactError, match=r"float32\.tflite is missing"):
        target.open(export)


def test_edge_target_refuses_a_service_with_other_files(
    exports: dict[tuple[str, int], Export], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The files were converted again, the service was not restarted."""
    export = copied(exports["mlp", 2], tmp_path)
    monkeypatch.setenv("ARTIFACTS", str(tmp_path))
    with start_service(tmp_path / "lite") as running:
        monkeypatch.setenv("EDGE_PORT", str(running.port))
        path = export.lite("int8").with_suffix(".json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "newer"}))
        with pytest.raises(TargetError, match="still serves an older file of mlp version 2"):
            find_target("edge-http").open(export)
        with pytest.raises(TargetError, match="does not serve mlp version 1"):
            find_target("edge-http").open(Export(tmp_path, "mlp", 1))


def test_lite_targets_import_no_tensorflow():
    code = "import sys, compare.targets.lite, compare.targets.edge; print('tensorflow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def copied(export: Export, root: Path) -> Export:
    """Evidence and .tflite files of one export, below another root."""
    copy = Export(root, export.model, export.version)
    shutil.copytree(export.lite("int8").parent, copy.lite("int8").parent)
    copy.evidence_json.parent.mkdir(parents=True)
    for suffix in (".json", ".npz"):
        shutil.copy(export.evidence_json.with_suffix(suffix), copy.evidence_json.with_suffix(suffix))
    return copy
