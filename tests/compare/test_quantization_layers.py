"""Where a graph loses: the ranking points at the layer whose weights were spoiled."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from compare.quantization.graph import matched, steps_of
from compare.quantization.layers import first_jump, layer_errors, ranked
from models.artifacts import read_json

ROWS = 16


@pytest.fixture(scope="module")
def cnn(exports):
    """The float32 file of ``cnn``: its bytes, its json, and rows of the test set."""
    export = exports["cnn", 2]
    path = export.lite("float32")
    rows = {name: values[:ROWS] for name, values in export.evidence.case("serving_default", "test").inputs.items()}
    return path.read_bytes(), read_json(path.with_suffix(".json")), rows


def spoiled(content: bytes, op: str, number: int) -> tuple[bytes, str]:
    """The file with the weights of one operator made noisy, and the name of the tensor that the operator writes."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    codes = [max(code.deprecatedBuiltinCode, code.builtinCode) for code in model.operatorCodes]
    wanted = [o for o in graph.operators if codes[o.opcodeIndex] == getattr(schema.BuiltinOperator, op)][number]
    buffer = model.buffers[graph.tensors[wanted.inputs[1]].buffer]
    weights = np.frombuffer(bytes(buffer.data), np.float32)
    noise = np.random.default_rng(0).standard_normal(len(weights)).astype(np.float32) * weights.std()
    buffer.data = np.frombuffer((weights + 0.5 * noise).tobytes(), np.uint8)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), graph.tensors[wanted.outputs[0]].name.decode()


@pytest.mark.parametrize(("op", "number"), [("CONV_2D", 0), ("CONV_2D", 1), ("FULLY_CONNECTED", 0)])
def test_ranking_points_at_the_spoiled_layer(cnn, op, number):
    content, description, rows = cnn
    broken, name = spoiled(content, op, number)
    errors = layer_errors(content, broken, description, rows)
    assert ranked(errors)[0].name == name
    assert first_jump(errors).name == name
    before = [e for e in errors if e.place < ranked(errors)[0].place]
    assert all(e.error == 0 for e in before)


def test_same_graph_loses_nothing(cnn):
    content, description, rows = cnn
    errors = layer_errors(content, content, description, rows)
    assert len(errors) == len(steps_of(content))
    assert {e.error for e in errors} == {0.0}
    assert first_jump(errors) is None


def test_tensors_of_other_names_are_matched_by_order(cnn):
    content, *_ = cnn
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = b"other/" + tensor.name
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    pairs = matched(steps_of(content), steps_of(bytes(builder.Output())))
    assert [(a.op, f"other/{a.name}") for a, _ in pairs] == [(b.op, b.name) for _, b in pairs]
    assert len(pairs) == len(steps_of(content))
