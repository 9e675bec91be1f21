"""What is inside a SavedModel: its signatures' tensors, and the hash of its variables."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from models.errors import ModelError

_HIDDEN = "__saved_model_init_op"


def tensor_hash(folder: Path) -> str:
    """sha256 over the SavedModel's variables, sorted: name, dtype, shape and bytes of each.

    The same weights give the same hash, which the files themselves do not: their order changes from export to export.
    The name is the variable's own, because the path in the object graph depends on that order too.
    """
    prefix = str(folder / "variables" / "variables")
    if not Path(prefix + ".index").is_file():
        return hashlib.sha256((folder / "saved_model.pb").read_bytes()).hexdigest()  # nothing but constants
    reader = tf.train.load_checkpoint(prefix)
    keys = reader.get_variable_to_shape_map()
    names = _own_names(reader) if "_CHECKPOINTABLE_OBJECT_GRAPH" in keys else {}
    entries = set()  # Keras stores a variable once for each list that holds it
    for key in keys:
        # A Dropout's random state is no weight: it is drawn anew whenever the Keras model is loaded.
        if key == "_CHECKPOINTABLE_OBJECT_GRAPH" or names.get(key, key).endswith("seed_generator_state"):
            continue
        value = np.asarray(reader.get_tensor(key))
        data = value.tobytes() if value.dtype != object else b"\0".join(value.ravel().tolist())
        head = f"{names.get(key, key)}\0{value.dtype}\0{value.shape}\0".encode()
        entries.add(hashlib.sha256(head + data).digest())
    return hashlib.sha256(b"".join(sorted(entries))).hexdigest()


def _own_names(reader) -> dict[str, str]:
    graph = TrackableObjectGraph.FromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    return {a.checkpoint_key: a.full_name for node in graph.nodes for a in node.attributes if a.full_name}


def read_signatures(folder: Path) -> dict[str, dict[str, Any]]:
    """``{signature: {"method_name", "inputs": [tensor], "outputs": [tensor]}}``, a tensor being ``{"name", "dtype", "shape"}``.

    Raises ModelError when the folder holds no readable SavedModel.
    """
    graph = _serving_graph(folder)
    return {
        name: {
            "method_name": signature.method_name,
            "inputs": [_tensor(key, signature.inputs[key]) for key in sorted(signature.inputs)],
            "outputs": [_tensor(key, signature.outputs[key]) for key in sorted(signature.outputs)],
        }
        for name, signature in sorted(graph.signature_def.items())
        if name != _HIDDEN
    }


def _serving_graph(folder: Path) -> meta_graph_pb2.MetaGraphDef:
    path = folder / "saved_model.pb"
    if not path.is_file():
        raise ModelError(
            f"{folder} is no SavedModel: it has no saved_model.pb; give the folder that model.export() wrote"
        )
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except DecodeError:
        raise ModelError(
            f"{path} ({path.stat().st_size} bytes) is damaged or cut off; export the model again"
        ) from None
    if not saved_model.meta_graphs:
        raise ModelError(f"{path} ({path.stat().st_size} bytes) holds no graph; export the model again")
    for graph in saved_model.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise ModelError(f"{path} has no graph tagged 'serve'; export the model again for serving")


def check_variables(folder: Path) -> None:
    """Raise ModelError where the graph has variables and the folder lacks their values, or half of them."""
    variables = folder / "variables"
    index, data = (variables / "variables.index").is_file(), any(variables.glob("variables.data-*"))
    graph = _serving_graph(folder)
    needed = "variables" in graph.collection_def or any(
        node.WhichOneof("kind") == "variable" for node in graph.object_graph_def.nodes
    )
    if index != data or (needed and not index):
        lacking = "variables.index" if not index else "variables.data-*"
        raise ModelError(f"{variables} lacks {lacking}, which the graph needs; copy the whole folder again")


def _tensor(key: str, info: meta_graph_pb2.TensorInfo) -> dict[str, Any]:
    shape = None if info.tensor_shape.unknown_rank else [d.size if d.size >= 0 else None for d in info.tensor_shape.dim]
    return {"name": key, "dtype": tf.as_dtype(info.dtype).name, "shape": shape}
