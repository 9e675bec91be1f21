"""The deployed model: preprocess → core → postprocess in one Keras model, raw units in and out, all of it serialisable."""

from __future__ import annotations

import re
from typing import Any

import keras
from keras import ops

from models.errors import ModelError
from models.spec import Affine, ModelSpec

_LAST = re.compile(r"last\((\w+)\)")


def raw_input_of(affine: Affine | None) -> str | None:
    """The raw input whose last step is the reference, or None where the reference is a constant."""
    if affine is None or not isinstance(affine.ref, str):
        return None
    match = _LAST.fullmatch(affine.ref)
    if not match:
        raise ModelError(f"the reference {affine.ref!r} is not understood; write a list of numbers or 'last(<input>)'")
    return match.group(1)


def as_data(affine: Affine | None) -> dict[str, Any] | None:
    """An affine as a layer's configuration holds it."""
    return {"ref": affine.ref, "scale": affine.scale} if affine else None


def _constants(affine: Affine, raw, ndim: int):
    """Reference and scale as tensors that broadcast against a tensor of ``ndim`` axes."""
    scale = ops.convert_to_tensor(affine.scale, "float32")
    if isinstance(affine.ref, str):
        last = raw[raw_input_of(affine)][:, -1, :]
        return (ops.expand_dims(last, 1) if ndim == 3 else last), scale
    return ops.convert_to_tensor(affine.ref, "float32"), scale


class _Affines(keras.layers.Layer):
    def __init__(self, tensors: dict[str, dict[str, Any] | None], **options):
        super().__init__(**options)
        self.tensors = tensors

    def affine(self, name: str) -> Affine | None:
        data = self.tensors.get(name)
        if not data:
            return None
        return Affine(data["ref"] if isinstance(data["ref"], str) else tuple(data["ref"]), tuple(data["scale"]))

    def get_config(self):
        return {**super().get_config(), "tensors": self.tensors}


@keras.saving.register_keras_serializable("export_once")
class Preprocess(_Affines):
    """{input: raw} → {input: normalised}, ``(raw - ref) / scale``; a tensor without affine passes through."""

    def call(self, raw):
        normalised = {}
        for name, tensor in raw.items():
            if affine := self.affine(name):
                ref, scale = _constants(affine, raw, len(tensor.shape))
                tensor = (tensor - ref) / scale
            normalised[name] = tensor
        return normalised

    def compute_output_spec(self, raw):
        return {name: keras.KerasTensor(t.shape, t.dtype) for name, t in raw.items()}


@keras.saving.register_keras_serializable("export_once")
class Postprocess(_Affines):
    """({output: normalised}, {input: raw}) → {output: raw}, ``normalised * scale + ref``."""

    def call(self, normalised, raw):
        outputs = {}
        for name, tensor in normalised.items():
            if affine := self.affine(name):
                ref, scale = _constants(affine, raw, len(tensor.shape))
                tensor = tensor * scale + ref
            outputs[name] = tensor
        return outputs

    def compute_output_spec(self, normalised, raw):
        return {name: keras.KerasTensor(t.shape, t.dtype) for name, t in normalised.items()}


def run_core(core: keras.Model, spec: ModelSpec, normalised: dict) -> dict:
    """{input: normalised} → {output: normalised}; a core with one input or output may leave the names out."""
    answer = core(normalised[spec.inputs[0].name] if len(spec.inputs) == 1 else normalised)
    return answer if isinstance(answer, dict) else {spec.outputs[0].name: answer}


def deploy(core: keras.Model, spec: ModelSpec) -> keras.Model:
    """Wrap a trained core. ``core``, ``preprocess`` and ``postprocess`` stay layers of those names."""

    raw = {t.name: keras.Input(t.shape[1:], dtype=t.dtype, name=t.name) for t in spec.inputs}
    normalised = Preprocess({t.name: as_data(t.affine) for t in spec.inputs}, name="preprocess")(raw)
    postprocess = Postprocess({t.name: as_data(t.affine) for t in spec.outputs}, name="postprocess")
    outputs = postprocess(run_core(core, spec, normalised), raw)
    return keras.Model(raw, outputs, name=spec.name)
