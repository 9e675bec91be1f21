"""The trained variants: the twin that they start from, what is left in the files, and when they are made again."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pytest

from edge.runtime import LiteModel
from export.bundle import Export
from lite import calibration
from lite.compress.settings import settings_of
from lite.inspect import inspect_kernels
from lite.process import Worker
from models.errors import ModelError
from tests.commands import run_command
from tests.lite.building import description, run_lite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lite.building import KeptWorkers

    Exports = dict[tuple[str, int], Export]
    Made = Callable[[Export, str], Export]

# Only mlp is trained within seconds.
every_model = pytest.mark.parametrize(
    "model",
    [
        "mlp",
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("cnn", "lstm", "transformer")),
    ],
)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cnn", "lstm", "mlp", "transformer"])
def test_twin_answers_as_the_core_and_one_with_other_weights_is_refused(exports: Exports, model: str):
    from lite.compress.twin import check_twin, make_twin
    from models import keras_file

    export = exports[model, 2]
    core = keras_file.load(export.keras_file).get_layer("core")
    (rows,) = export.evidence.case("core", "test").inputs.values()
    twin = make_twin(core)
    assert check_twin(twin, core, rows) <= 1e-5
    twin.weights[0].assign(twin.weights[0] * 1.01)
    with pytest.raises(ModelError, match="the tf_keras twin answers differently by"):
        check_twin(twin, core, rows)


@pytest.mark.slow
@every_model
@pytest.mark.parametrize("variant", ["pruned", "pruned-int8"])
def test_pruned_file_has_its_zeros(exports: Exports, made: Made, model: str, variant: str):
    export = made(exports[model, 2], variant)
    described = description(export, variant)
    reached = inspect_kernels(export.lite(variant).read_bytes())
    assert reached == described["compression"]["reached"]
    assert reached["sparsity"] >= settings_of(model).sparsity - 0.01
    dense = "int8" if variant == "pruned-int8" else "float32"
    assert described["gzip_bytes"] < description(exports[model, 2], dense)["gzip_bytes"]


@pytest.mark.slow
@every_model
def test_clustered_file_has_16_values_per_kernel(exports: Exports, made: Made, model: str):
    export = made(exports[model, 2], "clustered")
    described = description(export, "clustered")
    reached = inspect_kernels(export.lite("clustered").read_bytes())
    assert reached == described["compression"]["reached"]
    assert 2 <= reached["distinct"] <= 16
    assert inspect_kernels(exports[model, 2].lite("float32").read_bytes())["distinct"] > 16


@pytest.mark.slow
def test_json_tells_what_was_trained(exports: Exports, made: Made):
    for variant, method in {
        "qat": "qat",
        "pruned": "pruned",
        "pruned-int8": "pruned",
        "clustered": "clustered",
    }.items():
        export = made(exports["mlp", 2], variant)
        told = description(export, variant)["compression"]
        assert told["method"] == method
        assert told["epochs"] >= 1
        assert told["metric"]["name"] == "roc_auc"
        assert 0.9 < told["metric"]["after"] <= 1
        older = Export(export.root, "mlp", 1)
        assert not older.lite(variant).with_suffix(".json").exists()  # only the newest version is trained
    assert description(exports["mlp", 2], "float32")["compression"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variants", "by"),
    [
        (["clustered"], "the same process"),  # whose start is random, k-means++
        pytest.param(["pruned", "pruned-int8"], "another process", marks=pytest.mark.exhaustive),
    ],
    ids=["clustered-again", "pruned-by another process"],
)
def test_compression_repeated_gives_the_same_model_and_only_once(
    mlp_root: Path, exports: Exports, made: Made, workers: KeptWorkers, variants: list[str], by: str
):
    before = {variant: made(exports["mlp", 2], variant) for variant in variants}
    shutil.copytree(exports["mlp", 2].keras_file.parent, mlp_root / "training" / "mlp")
    export = Export(mlp_root, "mlp", 2)
    worker = workers if by == "the same process" else Worker
    done = run_lite(mlp_root, "--variants", *variants, workers=worker)
    assert f"{len(variants)} files converted, 0 cannot be, 0 up to date" in done.stdout, done.stdout + done.stderr
    for variant in variants:
        first, again = description(before[variant], variant), description(export, variant)
        assert again["compression"] | {"seconds": None} == first["compression"] | {"seconds": None}
    (case, *_), one = export.evidence.cases(), variants[0]
    reference = LiteModel(before[one].lite(one)).predict(case.inputs)
    for name, answer in LiteModel(export.lite(one)).predict(case.inputs).items():
        np.testing.assert_allclose(answer, reference[name], atol=1e-6)
    done = run_lite(mlp_root, "--variants", *variants)
    assert f"0 files converted, 0 cannot be, {len(variants)} up to date" in done.stdout
    (mlp_root / "training" / "mlp" / "2.keras").write_bytes(b"another model")
    run_lite(mlp_root, "--variants", one)
    assert "is not the one that was exported" in description(export, one)["error"]


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
def test_calibration_curve_shows_few_and_wrong_rows_to_be_worse(mlp_root: Path, workers: KeptWorkers):
    def run() -> None:
        with mock.patch.object(calibration, "Worker", workers):
            done = run_command(calibration.main, ARTIFACTS=str(mlp_root), MODELS="")
        assert done.returncode == 0, done.stdout + done.stderr

    run()
    path = Export(mlp_root, "mlp", 2).lite("int8").with_name("calibration.json")
    points = json.loads(path.read_text())["points"]
    assert [point["rows"] for point in points[:-1]] == [1, 10, 100, 341]
    assert {point["source"] for point in points[:-1]} == {"training split"}
    assert points[-1]["source"] == "rows that were not normalised"
    first, best, wrong = points[0], points[-2], points[-1]
    assert best["max_abs"] < min(first["max_abs"], wrong["max_abs"])
    assert best["clear_agreement"] >= 0.98 > wrong["clear_agreement"]
    written = path.stat().st_mtime_ns
    run()
    assert path.stat().st_mtime_ns == written
