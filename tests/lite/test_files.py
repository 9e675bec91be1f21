"""The converted files of every exported model, on the real interpreter."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from compare.decision import agreement
from compare.metrics import measure
from edge.runtime import LiteModel
from export.bundle import Export, find_exports
from lite.inspect import inspect_tflite
from models.artifacts import sha256_file

EXPORTS = find_exports()
pytestmark = pytest.mark.skipif(not EXPORTS, reason="no exports: run `make build` first")
every_export = pytest.mark.parametrize("export", EXPORTS, ids=lambda e: f"{e.model}-{e.version}")
# Largest absolute difference to Keras, relative to the largest reference value: rounding of weights to 16 bit.
BOUNDS = {"float32": 1e-5, "float16": 5e-3}


def load(export: Export, variant: str) -> LiteModel:
    return LiteModel(export.lite(variant))


@every_export
@pytest.mark.parametrize("variant", BOUNDS)
def test_float_file_answers_as_keras_twice(export: Export, variant: str):
    model = load(export, variant)
    for case in export.evidence.cases():
        for _ in range(2):
            answers = model.predict(case.inputs)
            for name, reference in case.outputs.items():
                assert answers[name].dtype == reference.dtype
                assert answers[name].shape == reference.shape
                scale = max(1.0, float(np.abs(reference).max()))
                assert np.abs(answers[name] - reference).max() <= BOUNDS[variant] * scale


@every_export
@pytest.mark.parametrize("variant", ["dynamic", "int8"])
def test_quantized_file_decides_as_keras(export: Export, variant: str):
    """The rule for quantized files: 0.98 agreement on clear samples; the metric at most 0.01, an MAE 15 %, worse."""
    case = export.evidence.case("serving_default", "test")
    spec = export.spec
    if case is None or case.labels is None or spec.decision is None or spec.metric is None:
        pytest.skip(f"{export.model} has no labelled samples")
    output = spec.decision.output
    reference, answer = case.outputs[output], load(export, variant).predict(case.inputs)[output]
    same = agreement(answer, reference, spec.decision, clear_margin=0.1)
    if same:
        assert same.clear_n >= 32
        assert (same.clear_agreement or 0) >= 0.98
    before = measure(spec.metric.name, spec.decision.kind, case.labels, reference)
    after = measure(spec.metric.name, spec.decision.kind, case.labels, answer)
    assert after >= before - 0.01 if spec.metric.higher_is_better else after <= 1.15 * before


@every_export
def test_int8_file_is_full_integer(export: Export):
    found = inspect_tflite(export.lite("int8").read_bytes())
    assert found["float_islands"] == {}
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(found["ops"])
    assert {t["dtype"] for t in found["inputs"] + found["outputs"]} <= {"int8", "int32"}


@every_export
def test_dynamic_file_is_seen_to_have_float_operators(export: Export):
    assert inspect_tflite(export.lite("dynamic").read_bytes())["float_islands"]


@every_export
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_server_file_takes_any_batch(export: Export, rows: int):
    model = load(export, "server")
    assert model.batch is None
    case = export.evidence.cases()[0]
    inputs = {name: values[:rows] for name, values in case.inputs.items()}
    for name, answer in model.predict(inputs).items():
        reference = case.outputs[name][:rows]
        assert answer.shape == reference.shape
        assert np.abs(answer - reference).max() <= 1e-5 * max(1.0, float(np.abs(reference).max()))


@every_export
def test_json_names_source_and_file(export: Export):
    for variant in ("float32", "float16", "dynamic", "int8", "server"):
        described = json.loads(export.lite(variant).with_suffix(".json").read_text())
        assert described["source_sha256"] == export.sha256
        assert described["sha256"] == sha256_file(export.lite(variant))
        assert described["bytes"] == export.lite(variant).stat().st_size
        assert described["ops"] == inspect_tflite(export.lite(variant).read_bytes())["ops"]


def test_recurrent_layer_is_fused_in_int8_and_unrolled_elsewhere(exports: dict[tuple[str, int], Export]):
    export = exports["lstm", 2]
    for variant, recurrent in (("int8", "fused"), ("float32", "unrolled"), ("server", "unrolled")):
        described = json.loads(export.lite(variant).with_suffix(".json").read_text())
        assert described["recurrent"] == recurrent
        assert ("UNIDIRECTIONAL_SEQUENCE_LSTM" in described["ops"]) == (recurrent == "fused")
        assert described["stateful"] == (recurrent == "fused")


def test_fused_file_without_reset_gives_a_wrong_second_answer(exports: dict[tuple[str, int], Export]):
    export = exports["lstm", 2]
    described = json.loads(export.lite("int8").with_suffix(".json").read_text())
    row = np.zeros(described["inputs"][0]["shape"], np.int8)
    interpreter = Interpreter(model_path=str(export.lite("int8")))
    interpreter.allocate_tensors()
    (given,), (got,) = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(*, reset: bool) -> int:
        if reset:
            interpreter.reset_all_variables()
        interpreter.set_tensor(given["index"], row)
        interpreter.invoke()
        return int(interpreter.get_tensor(got["index"]).item())

    first = answer(reset=True)
    assert answer(reset=False) != first
    assert answer(reset=True) == first
