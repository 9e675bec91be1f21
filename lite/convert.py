"""One conversion: SavedModel → .tflite bytes. The only file here that needs TensorFlow; runs in a worker process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lite.graph import copy_with, integer_operators, unroll
from lite.variants import SERVING
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from export.bundle import Export
    from export.evidence import Tensors
    from lite.variants import Variant

CALIBRATION_ROWS = 300  # int8 ranges settle well before that; more only costs time


class Converter:
    """Converts the variants of one export; changed copies of its SavedModel are made once. A context manager."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self._scratch = tempfile.TemporaryDirectory(prefix="lite-")
        self._copies: dict[str, Path] = {}

    def has_recurrent(self) -> bool:
        """Whether the SavedModel has a recurrent layer that can be converted both ways."""
        return self._changed("unrolled", unroll) != self.export.saved_model

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def convert(self, variant: Variant, signature: str) -> bytes:
        """Raises whatever the TFLite converter raises; ``lite.reasons`` puts it into plain words."""
        import tensorflow as tf

        saved_model = self._source(variant)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[signature])
        if variant.quantization != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant.quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if variant.quantization == "int8":
            rows = calibration(self.export, signature)
            converter.representative_dataset = lambda: iter(rows)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            # int8 in and out leaves no QUANTIZE at the border; the converter refuses it where no tensor is float.
            if any(v.dtype.kind == "f" for v in rows[0].values()):
                converter.inference_input_type = tf.int8
            if any(o.dtype.startswith("float") for o in self.export.spec.outputs):
                converter.inference_output_type = tf.int8
        return converter.convert()

    def _source(self, variant: Variant) -> Path:
        saved_model = self._changed("unrolled", unroll) if variant.recurrent == "unrolled" else self.export.saved_model
        if variant.quantization == "int8":
            return self._changed(f"{variant.recurrent}-integer", integer_operators, saved_model)
        return saved_model

    def _changed(self, name: str, change: Callable[[Any], bool], saved_model: Path | None = None) -> Path:
        if name not in self._copies:
            copy = Path(self._scratch.name) / name
            self._copies[name] = copy_with(change, saved_model or self.export.saved_model, copy)
        return self._copies[name]


def calibration(export: Export, signature: str) -> list[dict[str, Any]]:
    """The representative data set: one dict of inputs per invocation, with the signature's own batch size.

    Training samples recorded for the ``core`` signature; for a user's SavedModel, whatever inputs there are. ``static``
    takes the rows of ``serving_default``, one by one.
    """
    recorded = SERVING if signature == "static" else signature
    cases = [
        case.inputs for kind in ("calibration", "test", "random") if (case := export.evidence.case(recorded, kind))
    ]
    if not cases:
        raise ModelError(
            f"no sample inputs for signature {signature!r} of {export.model}, so an int8 file cannot be calibrated; "
            "give some with INPUTS=file.npz"
        )
    chosen = cases[0]
    batch = export.spec.inputs[0].shape[0] if signature not in ("core", "static") and export.spec.inputs[0].shape else 1
    return list(_batches(chosen, batch or 1))


def _batches(inputs: Tensors, size: int) -> Iterator[Tensors]:
    rows = min(len(next(iter(inputs.values()))), CALIBRATION_ROWS)
    for start in range(0, rows - size + 1, size):
        yield {name: np.ascontiguousarray(values[start : start + size]) for name, values in inputs.items()}
