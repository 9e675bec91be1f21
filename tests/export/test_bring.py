"""A user's own model: what can be used is used, and what cannot is refused in one sentence."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from export.bring import bring
from models.errors import ModelError
from tests.commands import run_command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """SavedModels and Keras files that a user might have, made by TensorFlow itself."""
    import keras
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("user")

    class Functions(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text"), tf.TensorSpec([None], tf.int64, "n")])
        def strings(self, text, n):
            return {"length": tf.strings.length(text) + tf.cast(n, tf.int32), "upper": tf.strings.upper(text)}

        @tf.function(input_signature=[tf.TensorSpec([2, 3], tf.float32, "x")])
        def fixed_and_noisy(self, x):
            return {"y": x + tf.random.normal([2, 3])}

        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
        def no_rank(self, x):
            return {"y": x}

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def total(self, x):
            return {"y": tf.reduce_sum(x)[None]}

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
        def scalar(self, x):
            return {"y": x}

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.complex64, "x")])
        def complex(self, x):
            return {"y": x}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "x")])
        def three_wide(self, x):
            return {"y": tf.matmul(x, tf.ones([3, 2]))}

        @tf.function(input_signature=[])
        def no_input(self):
            return {"y": tf.constant([1.0])}

        @tf.function(
            input_signature=[tf.TensorSpec([1, 2], tf.float32, "a"), tf.TensorSpec([None, 2], tf.float32, "b")]
        )
        def one_fixed(self, a, b):
            return {"y": a + b}

    functions = Functions()
    names = ("fixed_and_noisy", "no_rank", "total", "scalar", "complex", "three_wide", "strings")
    for name in (*names, "no_input", "one_fixed"):
        tf.saved_model.save(functions, str(folder / name), signatures={"answer": getattr(functions, name)})
    tf.saved_model.save(functions, str(folder / "no_signature"))

    a, b = keras.Input((None, 5), name="a"), keras.Input((2,), name="b", dtype="int32")
    joined = keras.layers.Concatenate()(
        [keras.layers.GlobalAveragePooling1D()(a), keras.layers.Flatten()(keras.layers.Embedding(3, 4)(b))]
    )
    outputs = {"p": keras.layers.Dense(2)(joined), "q": keras.layers.Dense(1)(joined)}
    keras.Model({"b": b, "a": a}, outputs).save(folder / "two.keras")
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    plain.save(folder / "plain.keras")
    plain.export(str(folder / "plain"), verbose=False)

    class Own(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    keras.Sequential([keras.Input((4,)), Own()]).save(folder / "own.keras")
    return folder


def _only_case(export):
    (case,) = export.evidence.cases(export.description["brought"]["signature"])
    return case


def test_savedmodel_is_copied_and_is_its_own_reference(folder, tmp_path):
    before = sorted((p, p.stat().st_mtime_ns) for p in (folder / "plain").rglob("*"))
    export = bring(folder / "plain", name="plain", root=tmp_path)
    assert export.description["reference"] == "savedmodel"
    assert export.description["brought"]["deterministic"] is True
    assert _only_case(export).outputs["output_0"].shape == (32, 3)
    assert len(export.evidence.arrays[f"serving_default/calibration/in/{export.spec.inputs[0].name}"]) >= 4
    assert not export.keras_file.exists()
    assert sorted((p, p.stat().st_mtime_ns) for p in (folder / "plain").rglob("*")) == before


def test_keras_file_with_two_inputs_keeps_its_names(folder, tmp_path, runner):
    export = bring(folder / "two.keras", name="two", root=tmp_path)
    assert export.description["reference"] == "keras"
    assert export.keras_file.is_file()
    assert set(export.description["signatures"]) == {"serving_default", "static"}
    assert export.description["brought"]["chosen_sizes"] == {"a": [8]}
    case = _only_case(export)
    assert {name: (v.shape, str(v.dtype)) for name, v in case.inputs.items()} == {
        "a": ((32, 8, 5), "float32"),
        "b": ((32, 2), "int32"),
    }
    assert set(np.unique(case.inputs["b"])) == {0, 1}
    answers = runner(export, "serving_default").run(case.inputs)
    for name in ("p", "q"):
        np.testing.assert_allclose(answers[name], case.outputs[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_keras_file_of_ours_comes_back(exports, tmp_path):
    export = bring(exports["lstm", 2].keras_file, name="forecast", root=tmp_path)
    assert [t.name for t in (*export.spec.inputs, *export.spec.outputs)] == ["series", "next_week"]
    assert export.sha256 == exports["lstm", 2].sha256


def test_only_signature_is_taken_whatever_its_name(folder, tmp_path):
    export = bring(folder / "strings", name="strings", root=tmp_path)
    assert export.description["brought"]["signature"] == "answer"
    case = _only_case(export)
    assert case.outputs["upper"].tolist() == [text.upper() for text in case.inputs["text"]]


def test_random_model_with_a_fixed_batch_is_called_not_deterministic(folder, tmp_path):
    export = bring(folder / "fixed_and_noisy", name="noisy", root=tmp_path)
    assert export.description["brought"]["deterministic"] is False
    assert _only_case(export).inputs["x"].shape == (4, 3)


def test_one_fixed_batch_among_several_inputs_is_kept_to(folder, tmp_path):
    case = _only_case(bring(folder / "one_fixed", name="one", root=tmp_path))
    np.testing.assert_array_equal(case.outputs["y"], case.inputs["a"] + case.inputs["b"])


def test_scalar_input_is_refused_with_inputs_too(folder, tmp_path):
    np.savez(tmp_path / "i.npz", x=np.float32(3))
    with pytest.raises(ModelError, match="input 'x' is a scalar without a batch axis"):
        bring(folder / "scalar", name="bad", root=tmp_path / "root", inputs_npz=tmp_path / "i.npz")


def test_given_inputs_are_the_evidence(folder, tmp_path):
    rows = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    np.savez(tmp_path / "i.npz", x=rows)
    export = bring(folder / "three_wide", name="three", root=tmp_path / "root", inputs_npz=tmp_path / "i.npz")
    case = _only_case(export)
    assert case.kind == "test"
    assert export.description["brought"]["inputs"] == "given"
    np.testing.assert_array_equal(case.inputs["x"], rows)


def test_second_time_nothing_is_made_again_and_a_changed_model_is(folder, tmp_path):
    shutil.copytree(folder / "plain", tmp_path / "mine")
    first = bring(tmp_path / "mine", name="mine", root=tmp_path / "root")
    stamp = first.evidence_json.stat().st_mtime_ns
    assert bring(tmp_path / "mine", name="mine", root=tmp_path / "root").evidence_json.stat().st_mtime_ns == stamp
    shutil.rmtree(tmp_path / "mine")
    shutil.copytree(folder / "strings", tmp_path / "mine")
    assert bring(tmp_path / "mine", name="mine", root=tmp_path / "root").spec.outputs[0].name == "length"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("no_rank", "input 'x' of signature 'answer' has no stated rank"),
        ("total", "output 'y' of .*total has 1 rows for 32 inputs"),
        ("scalar", "input 'x' is a scalar without a batch axis"),
        ("complex", "input 'x' of signature 'answer' has dtype complex64"),
        ("three_wide", r"refuses inputs of the shapes .*\[32, 8\].*Matrix size-incompatible.*give INPUTS"),
        ("no_signature", "has no signature that can be called"),
        ("no_input", "has no signature that can be called with inputs"),
        ("nothing_here", "does not exist; give a SavedModel folder or a .keras file"),
        (".", "is no SavedModel: it has no saved_model.pb"),
        ("plain/saved_model.pb", "is one file of a SavedModel; give its folder"),
        ("own.keras", "uses the class 'Own', which is defined elsewhere"),
    ],
)
def test_unusable_model_is_refused(folder, tmp_path, model, sentence):
    with pytest.raises(ModelError, match=sentence) as refusal:
        bring(folder / model, name="bad", root=tmp_path)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.glob("evidence/*/*.json"))


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda m: _cut(m / "saved_model.pb"), "is damaged or cut off; export the model again"),
        (lambda m: (m / "saved_model.pb").write_bytes(b""), "holds no graph; export the model again"),
        (lambda m: shutil.rmtree(m / "variables"), r"lacks variables\.index.*copy the whole folder again"),
        (lambda m: next((m / "variables").glob("*.data-*")).unlink(), r"lacks variables\.data-"),
        (lambda m: _cut(next((m / "variables").glob("*.data-*"))), "TensorFlow cannot load"),
    ],
)
def test_damaged_savedmodel_is_refused(folder, tmp_path, damage, sentence):
    shutil.copytree(folder / "plain", tmp_path / "mine")
    damage(tmp_path / "mine")
    with pytest.raises(ModelError, match=sentence):
        bring(tmp_path / "mine", name="bad", root=tmp_path / "root")


@pytest.mark.parametrize("content", [b"not a zip archive", b"PK\x03\x04"])
def test_damaged_keras_file_is_refused(tmp_path, content):
    (tmp_path / "bad.keras").write_bytes(content)
    with pytest.raises(ModelError, match="is no Keras file"):
        bring(tmp_path / "bad.keras", name="bad", root=tmp_path)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"z": np.zeros((5, 3))}, r"has the keys \['z'\], but the model's inputs are \['n', 'text'\]"),
        ({"text": np.array([b"a"] * 4), "n": np.arange(5)}, "different numbers of rows"),
        ({"text": np.arange(4), "n": np.arange(4)}, "'text' has dtype int64, but the model takes strings"),
        ({"text": np.array([b"a"] * 4), "n": np.arange(4.0)}, "'n' has dtype float64, but the model takes int64"),
        (
            {"text": np.array([[b"a"]] * 4), "n": np.arange(4)},
            r"'text' has shape \[4, 1\], but the model takes \[any\]",
        ),
        ({"text": np.array([b"a"] * 2), "n": np.arange(2)}, "has 2 rows; give at least 4"),
        ({"text": np.array([b"a", None]), "n": np.arange(2)}, "holds Python objects"),
    ],
)
def test_unfit_inputs_are_refused(folder, tmp_path, arrays, sentence):
    np.savez(tmp_path / "i.npz", **arrays)
    with pytest.raises(ModelError, match=sentence):
        bring(folder / "strings", name="bad", root=tmp_path / "root", inputs_npz=tmp_path / "i.npz")


def test_inputs_with_nan_are_refused(folder, tmp_path):
    np.savez(tmp_path / "i.npz", x=np.full((4, 3), np.nan, np.float32))
    with pytest.raises(ModelError, match="holds 12 values that are NaN or infinite"):
        bring(folder / "three_wide", name="bad", root=tmp_path / "root", inputs_npz=tmp_path / "i.npz")


def test_inputs_that_are_no_archive_are_refused(folder, tmp_path):
    (tmp_path / "i.npz").write_text("x: 1")
    for name, sentence in (("i.npz", "is no NumPy archive"), ("none.npz", "does not exist")):
        with pytest.raises(ModelError, match=sentence):
            bring(folder / "three_wide", name="bad", root=tmp_path / "root", inputs_npz=tmp_path / name)


def test_unknown_layer_is_refused_without_a_traceback(folder, tmp_path):
    """As a command says it. Keras knows the class by its module, which it finds nowhere."""
    done = run_command(lambda _: bring(folder / "own.keras", name="own", root=tmp_path) and 0)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "uses the class 'Own'" in done.stderr
