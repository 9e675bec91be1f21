"""Every signature of every export, on TensorFlow, against the recorded answers of the Keras model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models import registry
from models.deployed import raw_input_of

if TYPE_CHECKING:
    from export.bundle import Export

EVERY = [(name, version) for name in registry.names() for version in (1, 2)]
# Their ``core`` has more than a hundred steps for each of a thousand rows.
SLOW = ("lstm", "transformer")
COMMON = {"serving_default", "static", "core", "preprocess", "postprocess"}
EXTRA = {"mlp": {"classify"}, "lstm": {"regress"}, "transformer": {"from_text"}, "cnn": set()}


@pytest.fixture
def export(exports, request) -> Export:
    return exports[request.param]


@pytest.mark.parametrize("export", EVERY, indirect=True)
def test_signatures_are_the_stated_ones(export):
    signatures = export.description["signatures"]
    assert set(signatures) == COMMON | EXTRA.get(export.model, set(signatures) - COMMON)
    for name, signature in signatures.items():
        batch = 1 if name in ("static", "core") else None
        assert all(t["shape"][0] == batch for t in (*signature["inputs"], *signature["outputs"])), name
    default = signatures["serving_default"]
    assert [t["name"] for t in default["inputs"]] == sorted(t.name for t in export.spec.inputs)
    assert [t["name"] for t in default["outputs"]] == sorted(t.name for t in export.spec.outputs)


@pytest.mark.parametrize(
    "export",
    [pytest.param(pair, marks=pytest.mark.slow if pair[0] in SLOW else ()) for pair in EVERY],
    indirect=True,
)
def test_every_signature_answers_as_recorded(export, runner):
    recorded = export.evidence.signatures()
    assert set(recorded) == set(export.description["signatures"]) - {"static"}
    for signature in recorded:
        cases = export.evidence.cases(signature)
        assert {case.kind for case in cases} == {"test", "boundary", "random"}
        for case in cases:
            _assert_close(runner(export, signature).run(case.inputs), case.outputs, f"{signature} {case.kind}")


@pytest.mark.parametrize("export", EVERY, indirect=True)
def test_static_answers_as_serving_default(export, runner):
    for case in export.evidence.cases("serving_default"):
        few = {name: values[:16] for name, values in case.inputs.items()}
        expected = {name: values[:16] for name, values in case.outputs.items()}
        _assert_close(runner(export, "static").run(few), expected, f"static {case.kind}")


@pytest.mark.parametrize("export", EVERY, indirect=True)
def test_postprocess_of_core_of_preprocess_is_the_whole(export, runner):
    case = export.evidence.case("serving_default", "test")
    raw = {name: values[:64] for name, values in case.inputs.items()}
    needed = {name for t in export.spec.outputs if (name := raw_input_of(t.affine))}
    normalised = runner(export, "preprocess").run(raw)
    answers = runner(export, "core").run(normalised)
    whole = runner(export, "postprocess").run({**answers, **{name: raw[name] for name in needed}})
    _assert_close(whole, {name: values[:64] for name, values in case.outputs.items()}, export.model)


@pytest.mark.parametrize(("model", "signature"), [("mlp", "classify"), ("lstm", "regress")])
def test_example_signature_has_the_method_name_of_tf_serving(exports, model, signature):
    signatures = exports[model, 2].description["signatures"]
    assert signatures[signature]["method_name"] == f"tensorflow/serving/{signature}"
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"


def test_classify_names_its_classes(exports, runner):
    case = exports["mlp", 2].evidence.case("classify", "test")
    answers = runner(exports["mlp", 2], "classify").run(case.inputs)
    assert answers["classes"].shape == answers["scores"].shape == (case.rows, 2)
    assert set(answers["classes"].ravel().tolist()) == {b"malignant", b"benign"}
    np.testing.assert_allclose(answers["scores"].sum(1), 1, atol=1e-6)


def test_from_text_reaches_empty_and_overlong_texts(exports):
    texts = exports["transformer", 2].evidence.case("from_text", "boundary").inputs["text"]
    lengths = [len(text) for text in texts]
    assert min(lengths) == 0
    assert {40, 41} <= set(lengths)
    assert max(lengths) > 200


def _assert_close(answers, expected, where):
    assert set(answers) == set(expected), where
    for name, values in expected.items():
        assert answers[name].dtype == values.dtype, where
        assert answers[name].shape == values.shape, where
        if values.dtype == object:
            assert (answers[name] == values).all(), where
        else:
            np.testing.assert_allclose(answers[name], values, rtol=1e-5, atol=1e-5, err_msg=where)
