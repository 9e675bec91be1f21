"""The converted files of every exported model, on the real interpreter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from compare.decision import agreement
from compare.metrics import measure
from edge.runtime import LiteModel
from export.bundle import Export, find_exports
from lite.bias import own_biases
from lite.inspect import inspect_tflite
from lite.metadata import read_metadata, with_metadata
from lite.variants import DEPLOYED, VARIANTS
from models.artifacts import sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable

EXPORTS = find_exports()
pytestmark = pytest.mark.skipif(not EXPORTS, reason="no exports: run `make build` first")
every_export = pytest.mark.parametrize("export", EXPORTS, ids=lambda e: f"{e.model}-{e.version}")
# Largest absolute difference to Keras, relative to the largest reference value: rounding of weights to 16 bit.
BOUNDS = {"float32": 1e-5, "float16": 5e-3}
# The variants that cannot be had, and how the reason begins.
REFUSED = {
    ("transformer", "int16x8"): "int16x8 needs a range for every tensor, and the calibrator records none for",
    ("lstm", "qat"): "Layer recurrent:<class 'lite.compress.layers.UnrolledLSTM'> is not supported. You can quantize",
    ("transformer", "qat"): "Input 'inputs' of 'FakeQuantWithMinMaxVars' Op has type int32 that does not match",
}
NEWEST = {export.model: export for export in EXPORTS}


def marks_of(model: str, variant: str) -> list[pytest.MarkDecorator]:
    """What `make convert` has made costs nothing. Else mlp and cnn are converted for a test, and mlp is trained."""
    if variant in DEPLOYED:
        return []
    if VARIANTS[variant].compression != "none":
        return [pytest.mark.slow] if model == "mlp" else [pytest.mark.slow, pytest.mark.exhaustive]
    return [pytest.mark.slow] if model in ("mlp", "cnn") else [pytest.mark.slow, pytest.mark.ci]


def every_file(*variants: str) -> pytest.MarkDecorator:
    """Every export that has these variants, each with its file."""
    cases = [
        pytest.param(export, name, id=f"{export.model}-{export.version}-{name}", marks=marks_of(export.model, name))
        for export in EXPORTS
        for name in variants
        if (export.model, name) not in REFUSED
        and (VARIANTS[name].compression == "none" or export == NEWEST[export.model])
    ]
    return pytest.mark.parametrize(("given", "variant"), cases)


@pytest.fixture
def export(given: Export, variant: str, made: Callable[[Export, str], Export]) -> Export:
    return made(given, variant)


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


@every_file("dynamic", "int8", "int8-inside", "int16x8", "weight-only")
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


@every_file("qat", "pruned", "clustered", "pruned-int8")
def test_trained_file_keeps_the_metric(export: Export, variant: str, made: Callable[[Export, str], Export]):
    """On the whole test split, before conversion, as the json tells; and the file itself is as good as what was trained.

    Not that it decides like the original: it was trained further, and a near tie may fall on the other side.
    """
    spec, case = export.spec, export.evidence.case("serving_default", "test")
    assert case
    assert case.labels is not None
    assert spec.decision
    assert spec.metric
    told = json.loads(export.lite(variant).with_suffix(".json").read_text())["compression"]["metric"]
    output = spec.decision.output
    files = {
        "float32": NEWEST[export.model],
        variant: export,
        "pruned": made(export, "pruned") if variant == "pruned-int8" else export,
    }
    measured = {
        name: measure(
            spec.metric.name, spec.decision.kind, case.labels, load(files[name], name).predict(case.inputs)[output]
        )
        for name in {"float32", variant, "pruned" if variant == "pruned-int8" else variant}
    }
    pairs = [(told["before"], told["after"])]
    pairs += [(measured["pruned"], measured[variant])] if variant == "pruned-int8" else []
    for before, after in pairs:
        assert after >= before - 0.01 if spec.metric.higher_is_better else after <= 1.15 * before
    assert (
        measured[variant] >= measured["float32"] - 0.02
        if spec.metric.higher_is_better
        else measured[variant] <= 1.15 * measured["float32"]
    )


@every_file("int8", "int8-inside", "qat", "pruned-int8", "int16x8")
def test_bias_is_in_the_scale_of_its_own_operator(export: Export, variant: str):
    content = export.lite(variant).read_bytes()
    assert own_biases(content) is content


@pytest.mark.slow
@pytest.mark.ci
def test_steps_of_the_int16x8_lstm_have_biases_of_their_own(made: Callable[[Export, str], Export]):
    """The converter gives all 52 the first step's: MAE 0.79 ppm instead of 0.31. Steps of the same scale share one."""
    content = made(NEWEST["lstm"], "int16x8").lite("int16x8").read_bytes()
    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    biases = [operator.inputs[2] for operator in graph.operators if len(operator.inputs) == 3]
    assert len(biases) / 2 < len(set(biases))


@pytest.mark.parametrize(
    ("model", "variant"), [pytest.param(*names, marks=marks_of(*names), id="-".join(names)) for names in REFUSED]
)
def test_variant_that_cannot_be_had_says_why(made: Callable[[Export, str], Export], model: str, variant: str):
    export = made(NEWEST[model], variant)
    assert json.loads(export.lite(variant).with_suffix(".json").read_text())["error"].startswith(
        REFUSED[model, variant]
    )
    assert not export.lite(variant).exists()


@every_file("int8", "qat", "pruned-int8", "int16x8")
def test_integer_file_is_full_integer(export: Export, variant: str):
    """By its operators and tensors: none of them is float. QUANTIZE between two integer scales is integer as well."""
    found = inspect_tflite(export.lite(variant).read_bytes())
    assert found["float_islands"] == {}
    assert "DEQUANTIZE" not in found["ops"]
    # One behind each int8 softmax (lite/softmax.py), none anywhere else.
    assert variant == "int16x8" or found["ops"].get("QUANTIZE", 0) == found["ops"].get("SOFTMAX", 0)
    assert {t["dtype"] for t in found["inputs"] + found["outputs"]} <= {
        "int16" if variant == "int16x8" else "int8",
        "int32",
    }


@every_file("int8-inside")
def test_int8_inside_file_has_floats_at_its_border_alone(export: Export, variant: str):
    """The calibrator may record no range for the part of the LSTM's first step that nothing reads; it is split in float."""
    found = inspect_tflite(export.lite(variant).read_bytes())
    allowed = {"QUANTIZE", "DEQUANTIZE"} | ({"SPLIT"} if export.model == "lstm" else set())
    assert "DEQUANTIZE" in found["float_islands"]
    assert found["float_islands"].keys() <= allowed
    assert found["float_islands"].get("SPLIT", 0) <= 1
    assert {t["dtype"] for t in found["inputs"] + found["outputs"]} <= {"float32", "int32"}
    assert not found["stateful"]


@pytest.mark.parametrize("model", ["cnn", "mlp", "transformer"])
def test_int8_inside_answers_as_int8_where_nothing_is_recurrent(model: str):
    export = NEWEST[model]
    inputs = export.evidence.cases()[0].inputs
    integer = load(export, "int8").predict(inputs)
    for name, answer in load(export, "int8-inside").predict(inputs).items():
        np.testing.assert_array_equal(answer, integer[name])


def test_state_of_the_int8_inside_lstm_is_not_joined_with_its_input():
    """Joined, the two would share a scale."""
    ops = json.loads(NEWEST["lstm"].lite("int8-inside").with_suffix(".json").read_text())["ops"]
    assert "CONCATENATION" not in ops
    assert ops["FULLY_CONNECTED"] == 52 + 51 + 1  # the first state is zero; one is the layer behind


@every_file("weight-only")
def test_weight_only_file_computes_in_float(export: Export, variant: str):
    """No operator reads an int8 tensor but DEQUANTIZE: a hybrid kernel would."""
    found = inspect_tflite(export.lite(variant).read_bytes())
    assert found["ops"]["DEQUANTIZE"] == len(found["quantized"])
    model = schema.Model.GetRootAsModel(export.lite(variant).read_bytes(), 0)
    graph = model.Subgraphs(0)
    for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        read = {graph.Tensors(i).Type() for i in operator.InputsAsNumpy() if i >= 0}
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        assert (schema.TensorType.INT8 in read) == (code == schema.BuiltinOperator.DEQUANTIZE)


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


@every_file(*VARIANTS)
def test_json_names_source_and_file(export: Export, variant: str):
    described = json.loads(export.lite(variant).with_suffix(".json").read_text())
    assert described["source_sha256"] == export.sha256
    assert described["sha256"] == sha256_file(export.lite(variant))
    assert described["bytes"] == export.lite(variant).stat().st_size
    assert 0 < described["gzip_bytes"] < described["bytes"]
    found = inspect_tflite(export.lite(variant).read_bytes())
    assert described["ops"] == found["ops"]
    assert described["quantized"] == found["quantized"]
    ranges = {t.name: t.range for t in (*export.spec.inputs, *export.spec.outputs)}
    for tensor in described["inputs"] + described["outputs"]:
        assert tensor["range"] == list(ranges[tensor["name"]])
    # The file itself says the same, when it has lost its json.
    assert found["metadata"] == {key: described[key] for key in found["metadata"]}
    assert found["metadata"]["affine"] == described["affine"]


@every_export
def test_json_tells_the_calibration(export: Export):
    described = json.loads(export.lite("int8").with_suffix(".json").read_text())
    assert described["calibration"]["source"] == "training split"
    assert described["calibration"]["rows"] >= 300
    assert json.loads(export.lite("float32").with_suffix(".json").read_text())["calibration"] is None


@every_export
def test_metadata_leaves_the_rest_of_the_file_as_it_is(export: Export):
    content = export.lite("int8").read_bytes()
    other = with_metadata(content, {"model": "another"})
    assert read_metadata(other) == {"model": "another"}
    before, after = (schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(c, 0)) for c in (content, other))
    entry = next(m.buffer for m in before.metadata if m.name == b"EXPORT_ONCE")
    del before.buffers[entry], after.buffers[entry]
    assert _as_data(before) == _as_data(after)
    interpreter = Interpreter(model_content=other)
    interpreter.allocate_tensors()
    # XNNPACK and NEON read weights 16 bytes at a time.
    packed = schema.Model.GetRootAsModel(other, 0)
    start = np.frombuffer(other, np.uint8).ctypes.data
    for buffer in (packed.Buffers(i) for i in range(packed.BuffersLength())):
        if buffer.DataLength():
            assert (buffer.DataAsNumpy().ctypes.data - start) % 16 == 0


def _as_data(value):
    """A flatbuffer object as nested lists and dictionaries that can be compared."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [_as_data(entry) for entry in value]
    return {name: _as_data(entry) for name, entry in vars(value).items()} if hasattr(value, "__dict__") else value


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
