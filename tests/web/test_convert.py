"""SavedModel → TF.js: what is current is left alone, what cannot be converted says why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from export.bundle import Export
from models.artifacts import REPOSITORY
from web.convert import CONVERTER, VARIANTS, convert_all, description_json, missing_converter, stale, weigh

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mlp(exports: dict[tuple[str, int], Export], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """A copy of the exported mlp in a root of its own, not yet converted."""
    original, copy = exports["mlp", 2], Export(tmp_path, "mlp", 2)
    shutil.copytree(original.saved_model, copy.saved_model)
    copy.evidence_json.parent.mkdir(parents=True)
    for file in (original.evidence_json, original.evidence_json.with_suffix(".npz")):
        shutil.copy(file, copy.evidence_json.parent)
    monkeypatch.setenv("ARTIFACTS", str(tmp_path))
    return copy


def test_built_models_are_current_and_described(exports: dict[tuple[str, int], Export]) -> None:
    built = list(exports.values())
    assert stale(built) == []
    assert convert_all(built) == []
    for export in built:
        sizes = []
        for variant in VARIANTS:
            description = json.loads(description_json(export, variant).read_text())
            assert description["error"] is None
            assert description["source_sha256"] == export.sha256
            assert (description["bytes"], description["sha256"]) == weigh(export.web(variant))
            assert description["signature"] == "static"
            weights = sum(file.stat().st_size for file in export.web(variant).glob("*.bin"))
            sizes.append(weights)
        assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.slow
def test_conversion_is_done_once_and_due_again_when_a_file_is_gone(mlp: Export) -> None:
    assert convert_all([mlp]) == [mlp]
    assert convert_all([mlp]) == []
    program = "import sys; from web.convert import main; main([]); sys.exit('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, f"to find that nothing is due it imports TensorFlow: {done.stderr}"
    assert "0 converted, 1 current" in done.stdout
    for variant in VARIANTS:
        (mlp.web(variant) / "model.json").rename(mlp.root / "model.json")
        assert stale([mlp]) == [mlp]
        (mlp.root / "model.json").rename(mlp.web(variant) / "model.json")
    assert stale([mlp]) == []


@pytest.mark.slow
def test_broken_saved_model_leaves_its_reason_and_no_folder(mlp: Export) -> None:
    (mlp.saved_model / "saved_model.pb").write_bytes(b"not a graph")
    assert convert_all([mlp]) == [mlp]
    reason = json.loads(description_json(mlp).read_text())["error"]
    assert reason.startswith("the TF.js converter refused the model: ")
    assert "\n" not in reason
    assert {json.loads(description_json(mlp, variant).read_text())["error"] for variant in VARIANTS} == {reason}
    assert not any(mlp.web(variant).exists() for variant in VARIANTS)
    assert convert_all([mlp]) == []


def test_string_input_is_refused_without_starting_the_converter(mlp: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    description = json.loads(mlp.evidence_json.read_text())
    description["spec"]["inputs"][0]["dtype"] = "string"
    mlp.evidence_json.write_text(json.dumps(description))
    monkeypatch.setenv("CONVERTER_PYTHON", "/nowhere/python")
    convert_all([mlp])
    assert json.loads(description_json(mlp).read_text())["error"].startswith("input 'features' takes strings")


def test_missing_environment_is_said_and_the_build_goes_on(mlp: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVERTER_PYTHON", "/nowhere/python")
    reason = missing_converter()
    assert reason is not None
    assert "/nowhere/python" in reason or (CONVERTER / ".skipped").is_file()
    done = subprocess.run(
        [sys.executable, "-m", "web.convert"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert reason in done.stdout
    assert mlp.web("float32").with_name("samples.json").is_file()
