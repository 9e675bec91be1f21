"""A bias in the scale of its own operator.

A kernel adds the bias to a sum of products, so it must be in the scale of input times weights. Where operators share one
bias constant, as the 52 steps of an unrolled LSTM do, the converter (TensorFlow 2.20) quantizes it once, with the first
operator's scale, and every other step adds a wrong number. Here each operator gets a constant of its own.

Source: tensorflow/lite/kernels/kernel_util.cc, GetQuantizedConvolutionMultipler: bias scale = input scale × filter scale.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_DTYPES: dict[int, np.dtype[Any]] = {schema.TensorType.INT32: np.dtype("<i4"), schema.TensorType.INT64: np.dtype("<i8")}


def own_biases(content: bytes) -> bytes:
    """The .tflite file with the bias of each FULLY_CONNECTED in that operator's scale; as it is where all are already."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if not sum(_give_own_bias(model, graph, operator) for graph in model.subgraphs for operator in graph.operators):
        return content
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _give_own_bias(model: Any, graph: Any, operator: Any) -> bool:
    """Whether it had another operator's."""
    code = model.operatorCodes[operator.opcodeIndex]
    if code.builtinCode != schema.BuiltinOperator.FULLY_CONNECTED or len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return False
    given, weights, bias = (graph.tensors[index] for index in operator.inputs)
    if bias.type not in _DTYPES:
        return False
    shared = np.asarray(bias.quantization.scale, np.float64)
    own = given.quantization.scale[0] * np.asarray(weights.quantization.scale, np.float64)
    if np.allclose(own, shared, rtol=1e-5):
        return False
    dtype = _DTYPES[bias.type]
    values = np.frombuffer(bytes(model.buffers[bias.buffer].data), dtype) * shared
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.rint(values / own).astype(dtype).tobytes(), np.uint8)
    model.buffers.append(buffer)
    twin = copy(bias)
    twin.name, twin.buffer = bias.name + f"/{len(graph.tensors)}".encode(), len(model.buffers) - 1
    twin.quantization = copy(bias.quantization)
    twin.quantization.scale = own.astype(np.float32)
    graph.tensors.append(twin)
    operator.inputs = [*operator.inputs[:2], len(graph.tensors) - 1]
    return True
