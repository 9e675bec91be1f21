"""CONTRIBUTING.md, executed in this process: its model is found, trained and exported; its target is found and judged.

``test_contributing.py`` runs the whole line on both, which takes minutes.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import compare.targets
import models
from compare import __main__ as comparison
from compare.bench import Bench
from export import __main__ as exporting
from export.bundle import find_exports
from models import registry
from models.artifacts import REPOSITORY, artifacts_root, write_json
from models.train import is_trained, made_from, training_folder
from tests.commands import run_command
from tests.line.examples import write_examples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the two files, beside links to all that their rooms have; both rooms look there."""
    folder = tmp_path / "repository"
    write_examples(folder)
    for path in (REPOSITORY / "models").iterdir():
        (folder / "models" / path.name).symlink_to(path)
    monkeypatch.setattr(registry, "FOLDER", folder / "models")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder / "models")])
    # The comparison opens a target in a process of its own, which takes PYTHONPATH and sys.path over.
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(REPOSITORY))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(folder)]))
    monkeypatch.setattr(compare.targets, "__path__", [*compare.targets.__path__, str(folder / "compare" / "targets")])
    yield folder
    for name in ("models.wine", "compare.targets.lite_plain"):
        sys.modules.pop(name, None)


def test_new_model_is_found_trained_exported_and_answers_as_trained(added: Path, tmp_path: Path) -> None:
    from models.training_run import train_model

    root = tmp_path / "artifacts"
    assert "wine" in registry.names()
    assert added / "models" / "wine.py" in registry.sources("wine")
    folder = training_folder(root, "wine")
    folder.mkdir(parents=True)
    # What `python -m models.train` does, without TensorFlow's determinism, which would stay on in this process.
    trained = train_model(registry.load("wine"), folder, print)
    assert trained["metric"]["2"] > trained["metric"]["1"]
    assert trained["metric"]["2"] >= registry.load("wine").metric.bound
    write_json(folder / "training.json", {**trained, "made_from": made_from("wine")})
    assert is_trained(root, "wine")

    done = run_command(exporting.main, ARTIFACTS=str(root), MODELS="wine")
    assert done.returncode == 0, done.stderr
    assert "exported 2 of 2 versions" in done.stdout
    exports = find_exports(root)
    assert [(export.model, export.version) for export in exports] == [("wine", 1), ("wine", 2)]
    bench = Bench()
    for target in ("keras", "savedmodel"):
        assert bench.unsupported(target, exports[1], "serving_default") is None
        verdict = bench.verify(target, exports[1], "serving_default", 4.0)
        assert verdict.verdict == "pass", (target, verdict)
    bench.close_all()


@pytest.mark.usefixtures("added")
def test_new_target_is_found_and_judged_like_the_others_in_table_and_report(tmp_path: Path) -> None:
    root, reports = tmp_path / "artifacts", tmp_path / "reports"
    root.mkdir()
    for name in ("evidence", "savedmodels", "lite"):
        (root / name).symlink_to(artifacts_root() / name)
    places = {"ARTIFACTS": str(root), "REPORTS": str(reports)}
    done = run_command(comparison.main, "--models", "mlp", "--targets", "lite-float32-plain", **places)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((reports / "summary.json").read_text())["rows"]
    assert (row["model"], row["target"], row["verdict"]) == ("mlp", "lite-float32-plain", "pass")
    assert row["outputs"][0]["max_abs"] <= 1e-5
    assert row["latency"][0]["n"] > 0
    assert np.isfinite(row["latency"][0]["cold_ms"])
    page = (reports / "index.html").read_text()
    for text in ("mlp", "lite-float32-plain"):
        assert text in done.stdout
        assert text in page
