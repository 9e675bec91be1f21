"""The trained variants: the twin that they start from, what is left in the files, and when they are made again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.runtime import LiteModel
from export.bundle import Export
from lite.compress.settings import settings_of
from lite.inspect import inspect_kernels
from models.artifacts import REPOSITORY
from tests.lite.building import description, run_lite

if TYPE_CHECKING:
    from pathlib import Path

MODELS = ["cnn", "lstm", "mlp", "transformer"]
TWINS = """
import json, sys
from export.bundle import find_exports
from lite.compress.twin import check_twin, make_twin
from models import keras_file
from models.errors import ModelError

found = {}
for export in find_exports(versions=[2]):
    core = keras_file.load(export.keras_file).get_layer("core")
    (rows,) = export.evidence.case("core", "test").inputs.values()
    twin = make_twin(core)
    difference = check_twin(twin, core, rows)
    twin.weights[0].assign(twin.weights[0] * 1.01)
    try:
        check_twin(twin, core, rows)
        refused = ""
    except ModelError as error:
        refused = str(error)
    found[export.model] = [difference, refused]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_twin_answers_as_the_core_and_one_with_other_weights_is_refused(exports: dict[tuple[str, int], Export]):
    done = subprocess.run([sys.executable, "-c", TWINS], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert {model for model, _ in exports} <= set(found)
    for difference, refused in found.values():
        assert difference <= 1e-5
        assert refused.startswith("the tf_keras twin answers differently by")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("variant", ["pruned", "pruned-int8"])
def test_pruned_file_has_its_zeros(exports: dict[tuple[str, int], Export], model: str, variant: str):
    described = description(exports[model, 2], variant)
    reached = inspect_kernels(exports[model, 2].lite(variant).read_bytes())
    assert reached == described["compression"]["reached"]
    assert reached["sparsity"] >= settings_of(model).sparsity - 0.01
    dense = "int8" if variant == "pruned-int8" else "float32"
    assert described["gzip_bytes"] < description(exports[model, 2], dense)["gzip_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_clustered_file_has_16_values_per_kernel(exports: dict[tuple[str, int], Export], model: str):
    described = description(exports[model, 2], "clustered")
    reached = inspect_kernels(exports[model, 2].lite("clustered").read_bytes())
    assert reached == described["compression"]["reached"]
    assert 2 <= reached["distinct"] <= 16
    assert inspect_kernels(exports[model, 2].lite("float32").read_bytes())["distinct"] > 16


@pytest.mark.slow
def test_json_tells_what_was_trained(exports: dict[tuple[str, int], Export]):
    for variant, method in {
        "qat": "qat",
        "pruned": "pruned",
        "pruned-int8": "pruned",
        "clustered": "clustered",
    }.items():
        told = description(exports["mlp", 2], variant)["compression"]
        assert told["method"] == method
        assert told["epochs"] >= 1
        assert told["metric"]["name"] == "roc_auc"
        assert 0.9 < told["metric"]["after"] <= 1
    assert description(exports["mlp", 2], "float32")["compression"] is None
    assert not exports["mlp", 1].lite("pruned").with_suffix(".json").exists()  # only the newest version is trained


@pytest.mark.slow
def test_compression_repeated_gives_the_same_model_and_only_once(
    mlp_root: Path, exports: dict[tuple[str, int], Export]
):
    shutil.copytree(exports["mlp", 2].keras_file.parent, mlp_root / "training" / "mlp")
    export = Export(mlp_root, "mlp", 2)
    done = run_lite(mlp_root, "--variants", "pruned", "pruned-int8")
    assert "2 files converted, 0 cannot be, 0 up to date" in done.stdout, done.stdout + done.stderr
    for variant in ("pruned", "pruned-int8"):
        first, again = description(exports["mlp", 2], variant), description(export, variant)
        assert again["compression"] | {"seconds": None} == first["compression"] | {"seconds": None}
    (case, *_) = export.evidence.cases()
    reference = LiteModel(exports["mlp", 2].lite("pruned")).predict(case.inputs)
    for name, answer in LiteModel(export.lite("pruned")).predict(case.inputs).items():
        np.testing.assert_allclose(answer, reference[name], atol=1e-6)
    assert (
        "0 files converted, 0 cannot be, 2 up to date"
        in run_lite(mlp_root, "--variants", "pruned", "pruned-int8").stdout
    )
    (mlp_root / "training" / "mlp" / "2.keras").write_bytes(b"another model")
    run_lite(mlp_root, "--variants", "pruned")
    assert "is not the one that was exported" in description(export, "pruned")["error"]


def test_compression_without_training_says_what_it_needs(mlp_root: Path):
    done = run_lite(mlp_root, "--variants", "pruned", "qat")
    assert "0 files converted, 2 cannot be" in done.stdout, done.stdout + done.stderr
    error = description(Export(mlp_root, "mlp", 2), "pruned")["error"]
    assert error.startswith("a compression trains further, and needs the trained Keras model and its training data;")
    assert "run `make train`" in error


@pytest.mark.slow
def test_compression_of_a_user_model_says_what_it_needs(user_root: Path):
    for variant in ("qat", "pruned", "clustered", "pruned-int8"):
        assert "two is a model that was brought" in description(Export(user_root, "two", 1), variant)["error"]
        assert not Export(user_root, "two", 1).lite(variant).exists()


@pytest.mark.slow
def test_calibration_curve_shows_few_and_wrong_rows_to_be_worse(mlp_root: Path):
    command = [sys.executable, "-m", "lite.calibration"]
    environment = {**os.environ, "ARTIFACTS": str(mlp_root), "MODELS": ""}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    path = Export(mlp_root, "mlp", 2).lite("int8").with_name("calibration.json")
    points = json.loads(path.read_text())["points"]
    assert [point["rows"] for point in points[:-1]] == [1, 10, 100, 341]
    assert {point["source"] for point in points[:-1]} == {"training split"}
    assert points[-1]["source"] == "rows that were not normalised"
    first, best, wrong = points[0], points[-2], points[-1]
    assert best["max_abs"] < min(first["max_abs"], wrong["max_abs"])
    assert best["clear_agreement"] >= 0.98 > wrong["clear_agreement"]
    written = path.stat().st_mtime_ns
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    assert path.stat().st_mtime_ns == written
