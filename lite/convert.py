"""One conversion: SavedModel → .tflite bytes. The only file here that needs TensorFlow; runs in a worker process."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from lite.bias import own_biases
from lite.graph import copy_with, integer_operators, unroll, unroll_for_int8
from lite.softmax import portable_softmax
from lite.variants import SERVING
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from export.bundle import Export
    from export.evidence import Tensors
    from lite.variants import Variant

CALIBRATION_ROWS = 500  # all that the evidence has; they cost a tenth of a second
# The kinds of evidence that a file can be calibrated with, best first.
SOURCES = {"calibration": "training split", "test": "test inputs of the evidence", "random": "random inputs"}
# What the TFLite converter's calibrator does (tensorflow/lite/tools/optimize/calibration/calibration_logger.h, MinMax::Update).
METHOD = "smallest and largest value of each tensor over all rows; weights: largest absolute value per channel"


class Converter:
    """Converts the variants of one export; changed copies of its SavedModel are made once. A context manager."""

    def __init__(self, export: Export, say: Callable[[str], None], *, calibration: Calibration | None = None) -> None:
        """``say`` gets a line of progress; ``calibration`` stands in for the rows of the evidence."""
        self.export, self.calibration = export, calibration
        self._say = say
        self._scratch = tempfile.TemporaryDirectory(prefix="lite-")
        self._copies: dict[Path, Path] = {}
        self._loaded: dict[str, Any] = {}
        self._trained: dict[str, tuple[Path, dict[str, Any] | None]] = {"none": (export.saved_model, None)}

    def has_recurrent(self) -> bool:
        """Whether the SavedModel has a recurrent layer that can be converted both ways."""
        return self._changed("unrolled", unroll, self.export.saved_model) != self.export.saved_model

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *_: object) -> None:
        self._loaded.clear()
        self._scratch.cleanup()

    def convert(self, variant: Variant, signature: str) -> tuple[bytes, dict[str, Any]]:
        """The file, and for its json ``calibration`` and ``compression``: None, or what was done.

        Raises whatever the TFLite converter raises; ``lite.reasons`` puts it into plain words.
        """
        import tensorflow as tf
        from tensorflow.lite.python import lite

        samples = self.calibration or calibration(self.export, signature) if variant.calibrated else None
        saved_model = self._source(variant)
        # The converter loads the whole SavedModel twice for each file, to look at its signatures and its debug info: half of
        # the time. It changes nothing in what it has loaded.
        with mock.patch.object(lite, "_load", partial(self._load, lite._load)):
            converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[signature])
            if variant.quantization in ("float16", "dynamic", "int8", "int16x8"):
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if variant.quantization == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if samples:
                rows = samples.batches
                converter.representative_dataset = lambda: iter(rows)
                operators = {
                    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                    "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                }
                converter.target_spec.supported_ops = [operators[variant.quantization]]
            if variant.border == "integer":
                # Integers in and out leave no QUANTIZE at the border; the converter refuses it where no tensor is float.
                border = tf.int8 if variant.quantization == "int8" else tf.int16
                if any(i.dtype.startswith("float") for i in self.export.spec.inputs):
                    converter.inference_input_type = border
                if any(o.dtype.startswith("float") for o in self.export.spec.outputs):
                    converter.inference_output_type = border
            content = converter.convert()
        if variant.quantization == "weight-only":
            content = quantize_weights(content)
        if variant.quantization == "int8":
            content = portable_softmax(content)
        if variant.integer:
            content = own_biases(content)
        _, trained = self._compressed(variant.compression)
        return content, {"calibration": samples.describe() if samples else None, "compression": trained}

    def _load(self, load: Callable[..., Any], folder: str, tags: Collection[str]) -> Any:
        """What TensorFlow's ``load`` gives, each folder loaded once."""
        if folder not in self._loaded:
            self._loaded[folder] = load(folder, tags)
        return self._loaded[folder]

    def _source(self, variant: Variant) -> Path:
        saved_model, _ = self._compressed(variant.compression)
        if variant.recurrent == "unrolled" and variant.quantization == "int8":
            saved_model = self._changed("unrolled-for-int8", unroll_for_int8, saved_model)
        elif variant.recurrent == "unrolled":
            saved_model = self._changed("unrolled", unroll, saved_model)
        if variant.integer:
            saved_model = self._changed("integer", integer_operators, saved_model)
        return saved_model

    def _compressed(self, method: str) -> tuple[Path, dict[str, Any] | None]:
        """The SavedModel that the converter starts from, and what was trained for it."""
        if method not in self._trained:
            from lite.compress.training import compress

            folder = Path(self._scratch.name) / method
            self._trained[method] = (folder, compress(self.export, method, folder, self._say))
        return self._trained[method]

    def _changed(self, name: str, change: Callable[[Any], bool], saved_model: Path) -> Path:
        copy = Path(self._scratch.name) / f"{saved_model.name}-{name}"
        if copy not in self._copies:
            self._copies[copy] = copy_with(change, saved_model, copy)
        return self._copies[copy]


def quantize_weights(content: bytes) -> bytes:
    """A float .tflite file with its constants as int8, each dequantized to float in front of the operator that reads it."""
    from ai_edge_quantizer import quantizer, recipe

    return bytes(quantizer.Quantizer(content, recipe.weight_only_wi8_afp32()).quantize().quantized_model)


@dataclass(frozen=True)
class Calibration:
    """The representative data set: one dict of inputs per invocation, with the signature's own batch size."""

    batches: list[dict[str, Any]]
    source: str

    def describe(self) -> dict[str, Any]:
        rows = sum(len(next(iter(batch.values()))) for batch in self.batches)
        return {"rows": rows, "source": self.source, "method": METHOD}


def calibration(export: Export, signature: str) -> Calibration:
    """Training samples recorded for the ``core`` signature; for a user's SavedModel, whatever inputs there are.

    ``static`` takes the rows of ``serving_default``, one by one. Raises ModelError when there are no inputs.
    """
    recorded = SERVING if signature == "static" else signature
    cases = {kind: case for kind in SOURCES if (case := export.evidence.case(recorded, kind))}
    if not cases:
        raise ModelError(
            f"no sample inputs for signature {signature!r} of {export.model}, so an int8 file cannot be calibrated; "
            "give some with INPUTS=file.npz"
        )
    kind, case = next(iter(cases.items()))
    batch = export.spec.inputs[0].shape[0] if signature not in ("core", "static") and export.spec.inputs[0].shape else 1
    return Calibration(list(_batches(case.inputs, batch or 1)), SOURCES[kind])


def _batches(inputs: Tensors, size: int) -> Iterator[Tensors]:
    rows = min(len(next(iter(inputs.values()))), CALIBRATION_ROWS)
    for start in range(0, rows - size + 1, size):
        yield {name: np.ascontiguousarray(values[start : start + size]) for name, values in inputs.items()}
