"""The evidence: enough of it, real, labelled, finite, and inside the training range."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from export.evidence import Evidence, store
from export.inputs import WIDENING, bounds_of
from export.sample_inputs import write_sample_inputs
from models import registry
from models.artifacts import sha256_file
from models.errors import ArtifactError

MODELS = ["cnn", "lstm", "mlp", "transformer"]


@pytest.fixture(scope="module")
def training_rows():
    """``training_rows(model)``: those of the training split, read once."""
    return cache(lambda model: registry.load(model).dataset().rows("train")[0])


@pytest.mark.parametrize("model", MODELS)
def test_test_rows_are_held_out_and_labelled(exports, model):
    case = exports[model, 2].evidence.case("serving_default", "test")
    rows, labels = registry.load(model).dataset().rows("test", 1000)
    assert case.rows == len(labels) >= 64
    np.testing.assert_array_equal(case.labels, labels)
    for name, values in rows.items():
        np.testing.assert_array_equal(case.inputs[name], values)


@pytest.mark.parametrize("model", MODELS)
def test_made_up_rows_are_inside_the_widened_training_range(exports, training_rows, model):
    for kind in ("boundary", "random"):
        case = exports[model, 2].evidence.case("serving_default", kind)
        for name, (low, high) in bounds_of(training_rows(model)).items():
            margin = WIDENING * (high - low) + 1e-4
            assert np.isfinite(case.inputs[name]).all()
            assert (case.inputs[name] >= low - margin).all()
            assert (case.inputs[name] <= high + margin).all()


@pytest.mark.parametrize("model", MODELS)
def test_boundary_rows_reach_both_ends_and_zero(exports, training_rows, model):
    case = exports[model, 2].evidence.case("serving_default", "boundary")
    for name, (low, high) in bounds_of(training_rows(model)).items():
        values = case.inputs[name]
        assert any(np.allclose(row, low) for row in values)
        assert any(np.allclose(row, high) for row in values)
        if (low <= 0).all():
            assert any(not row.any() for row in values)


@pytest.mark.parametrize("model", MODELS)
def test_all_values_are_finite(exports, model):
    for version in (1, 2):
        for name, values in exports[model, version].evidence.arrays.items():
            assert values.dtype.kind != "f" or np.isfinite(values).all(), name


@pytest.mark.parametrize("model", MODELS)
def test_calibration_rows_are_normalised_training_rows(exports, model):
    export = exports[model, 2]
    for tensor in export.spec.inputs:
        values = export.evidence.arrays[f"core/calibration/in/{tensor.name}"]
        assert len(values) >= 300
        assert values.dtype == tensor.dtype
        if tensor.affine and not isinstance(tensor.affine.ref, str):
            assert abs(values.mean()) < 0.1
            assert abs(values.std() - 1) < 0.1


@pytest.mark.parametrize("model", MODELS)
def test_description_names_where_everything_comes_from(exports, model):
    export = exports[model, 2]
    description = export.description
    assert description["schema"] == 1
    assert description["reference"] == "keras"
    assert description["lineage"]["keras_sha256"] == sha256_file(export.keras_file)
    assert description["evidence"]["sha256"] == sha256_file(export.evidence_json.with_suffix(".npz"))
    assert description["evidence"]["counts"]["serving_default/test"] >= 64
    assert {"tensorflow", "keras", "numpy"} <= set(description["lineage"]["versions"])


def test_strings_of_any_shape_come_back(tmp_path):
    values = np.array([[b"", b"a\0"], ["é".encode(), b"x" * 300]], object)
    arrays = {}
    store(arrays, "s/test/in/text", values)
    np.savez(tmp_path / "e.npz", **arrays)
    case = Evidence.load(tmp_path / "e.npz").case("s", "test")
    assert case.inputs["text"].tolist() == values.tolist()


def test_damaged_file_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "e.npz").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(ArtifactError, match="is damaged"):
        Evidence.load(tmp_path / "e.npz")


def test_sample_inputs_hold_every_row_and_no_answer(exports, tmp_path):
    export = exports["cnn", 2]
    (path,) = write_sample_inputs(tmp_path, [export])
    assert path == tmp_path / "cnn" / "2.npz"
    with np.load(path) as file:
        assert list(file) == ["test/image", "boundary/image", "random/image"]
        for case in export.evidence.cases():
            np.testing.assert_array_equal(file[f"{case.kind}/image"], case.inputs["image"])
    written = path.read_bytes()
    write_sample_inputs(tmp_path, [export])
    assert path.read_bytes() == written
