"""The signatures of a SavedModel of ours, with named inputs and outputs; README.md lists who uses which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from models.deployed import raw_input_of, run_core
from models.spec import ModelSpec, TensorSpec
from models.string_signatures import PREDICT, ExtraSignature

if TYPE_CHECKING:
    from pathlib import Path


def write_saved_model(model: keras.Model, spec: ModelSpec, extras: list[ExtraSignature], folder: Path) -> None:
    """Write the SavedModel of a deployed model (``preprocess``, ``core`` and ``postprocess`` are layers of it)."""
    core, preprocess, postprocess = (model.get_layer(name) for name in ("core", "preprocess", "postprocess"))
    archive = keras.export.ExportArchive()
    archive.track(model)

    def add(name, function, tensors):
        """``function({input: tensor}) → {output: tensor}``, as a signature with these inputs."""
        specs = [tf.TensorSpec(t.shape, tf.as_dtype(t.dtype), t.name) for t in tensors]
        # The graph's own argument names become the signature's input names.
        concrete = tf.function(
            lambda *values: function({t.name: v for t, v in zip(tensors, values, strict=True)}),
            input_signature=specs,
            autograph=False,
        )
        archive.add_endpoint(name, concrete)

    def whole(raw):
        return model(raw, training=False)

    add("serving_default", whole, spec.inputs)
    add("static", whole, [_one_row(t) for t in spec.inputs])
    add("core", lambda normalised: run_core(core, spec, normalised), [_one_row(t) for t in spec.inputs])
    add("preprocess", preprocess, spec.inputs)
    needed = {raw_input_of(t.affine) for t in spec.outputs} - {None}
    raw_inputs = [t for t in spec.inputs if t.name in needed]

    def after(tensors):
        outputs = {t.name: tensors[t.name] for t in spec.outputs}
        return postprocess(outputs, {t.name: tensors[t.name] for t in raw_inputs})

    add("postprocess", after, [*spec.outputs, *raw_inputs])
    for extra in extras:
        strings = TensorSpec(extra.input, (None,), "string")
        add(extra.name, lambda values, e=extra: e.function(whole, values[e.input]), [strings])
    archive.write_out(str(folder), verbose=False)
    _set_method_names(folder, {e.name: e.method_name for e in extras if e.method_name != PREDICT})


def _one_row(tensor: TensorSpec) -> TensorSpec:
    return TensorSpec(tensor.name, (1, *tensor.shape[1:]), tensor.dtype)


def _set_method_names(folder: Path, methods: dict[str, str]) -> None:
    """TF Serving answers Classify and Regress only for signatures whose method name says so; Keras always writes Predict's."""
    if not methods:
        return
    path = folder / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved_model.meta_graphs:
        for name, method in methods.items():
            graph.signature_def[name].method_name = method
    path.write_bytes(saved_model.SerializeToString(deterministic=True))
