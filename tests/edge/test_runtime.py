"""LiteModel on real files: units, batches, threads, and files or inputs that do not fit."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.errors import ModelFileError, RequestError
from edge.runtime import LiteModel

if TYPE_CHECKING:
    from export.bundle import Export


@pytest.fixture
def copy(tmp_path: Path, exports: dict[tuple[str, int], Export]) -> Path:
    """int8.tflite of ``cnn``, with its json, to be damaged."""
    path = exports["cnn", 2].lite("int8")
    shutil.copy(path.with_suffix(".json"), tmp_path)
    return Path(shutil.copy(path, tmp_path))


def change(path: Path, **values: object) -> None:
    described = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(described | values))


def test_truncated_file_is_refused(copy: Path):
    copy.write_bytes(copy.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="truncated or exchanged; copy both again"):
        LiteModel(copy)


def test_file_that_is_no_model_is_refused_though_its_digest_fits(copy: Path):
    copy.write_bytes(b"no flatbuffer at all")
    change(copy, sha256="a1a5a3ad5c9b9d0c7e2b7f0f9e2cf0d2")
    with pytest.raises(ModelFileError, match="truncated or exchanged"):
        LiteModel(copy)
    import hashlib

    change(copy, sha256=hashlib.sha256(copy.read_bytes()).hexdigest())
    with pytest.raises(
        ModelFileError, match=r"ai-edge-litert \S+ cannot load .*int8\.tflite: The model is not a valid Flatbuffer"
    ):
        LiteModel(copy)


def test_missing_or_damaged_json_is_refused(copy: Path):
    described = copy.with_suffix(".json")
    content = json.loads(described.read_text())
    del content["affine"], content["stateful"]
    described.write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match="lacks affine, stateful"):
        LiteModel(copy)
    described.write_text("{")
    with pytest.raises(ModelFileError, match="cannot be read"):
        LiteModel(copy)
    described.unlink()
    with pytest.raises(ModelFileError, match="is missing"):
        LiteModel(copy)


def test_file_with_other_tensors_than_its_json_is_refused(copy: Path):
    inputs = json.loads(copy.with_suffix(".json").read_text())["inputs"]
    change(copy, inputs=[inputs[0] | {"name": "picture"}])
    with pytest.raises(ModelFileError, match="other inputs or outputs"):
        LiteModel(copy)


def test_failed_conversion_gives_the_converter_s_reason(copy: Path):
    change(copy, error="TFLite has no built-in operator for UnicodeDecode")
    with pytest.raises(ModelFileError, match=r"no int8.tflite of cnn version 2: TFLite has no built-in operator"):
        LiteModel(copy)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"picture": np.zeros((1, 8, 8, 1), np.float32)}, r"Sent extra: \{picture\}. Missing but required: \{image\}"),
        ({}, r"Missing but required: \{image\}"),
        ({"image": np.zeros((1, 8, 9, 1), np.float32)}, r"has shape \[1, 8, 9, 1\]; the model takes \[any, 8, 8, 1\]"),
        ({"image": np.zeros((8, 8, 1), np.float32)}, "has shape"),
        ({"image": np.zeros((1, 8, 8, 1), np.float64)}, "has dtype float64; the model takes float32"),
        ({"image": np.full((1, 8, 8, 1), np.nan, np.float32)}, "holds NaN or infinity"),
        ({"image": np.full((1, 8, 8, 1), np.inf, np.float32)}, "holds NaN or infinity"),
    ],
)
def test_input_that_does_not_fit_is_refused(copy: Path, inputs: dict, message: str):
    with pytest.raises(RequestError, match=message):
        LiteModel(copy).predict(inputs)


@pytest.mark.parametrize("variant", ["float32", "int8", "server"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "lstm", "transformer"])
def test_rows_asked_together_or_alone_answer_the_same(exports: dict[tuple[str, int], Export], model: str, variant: str):
    export = exports[model, 2]
    loaded = LiteModel(export.lite(variant))
    inputs = {name: values[:5] for name, values in export.evidence.cases()[0].inputs.items()}
    together = loaded.predict(inputs)
    for i in range(5):
        alone = loaded.predict({name: values[i : i + 1] for name, values in inputs.items()})
        for name, answer in alone.items():
            np.testing.assert_allclose(answer, together[name][i : i + 1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variant", ["float32", "int8", "server"])
def test_no_rows_give_empty_answers(exports: dict[tuple[str, int], Export], variant: str):
    answers = LiteModel(exports["cnn", 2].lite(variant)).predict({"image": np.zeros((0, 8, 8, 1), np.float32)})
    assert answers["probabilities"].shape == (0, 10)
    assert answers["probabilities"].dtype == np.float32


def test_window_in_ppm_is_normalised_by_its_last_week(exports: dict[tuple[str, int], Export]):
    """``last(series)``: a window that is 100 ppm higher gives a forecast that is 100 ppm higher."""
    export = exports["lstm", 2]
    model = LiteModel(export.lite("int8"))
    (series,) = (values[:8] for values in export.evidence.cases()[0].inputs.values())
    (name,) = (tensor.name for tensor in model.inputs)
    (low,), (high,) = model.predict({name: series}).values(), model.predict({name: series + np.float32(100)}).values()
    assert series.mean() > 300  # ppm, not normalised
    # One step of the int8 input may turn over where adding 100 rounds the float32 value.
    np.testing.assert_allclose(high - low, 100, atol=0.05)


def test_stateful_model_asked_from_many_threads_stays_right(exports: dict[tuple[str, int], Export]):
    export = exports["lstm", 2]
    model = LiteModel(export.lite("int8"))
    inputs = {name: values[:32] for name, values in export.evidence.cases()[0].inputs.items()}
    (expected,) = model.predict(inputs).values()

    def ask(i: int) -> np.ndarray:
        (answer,) = model.predict({name: values[i : i + 1] for name, values in inputs.items()}).values()
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = np.concatenate(list(pool.map(ask, list(range(32)) * 4)))
    np.testing.assert_array_equal(answers, np.tile(expected, (4, 1)))
