"""Inference on tf.Example: what Classify, Regress and MultiInference ask of a signature, and how its answer is read.

The rules and the words are TF Serving's (tensorflow_serving/servables/tensorflow/{classifier,regressor,multi_inference,
util}.cc). Both protocols and the warm-up come through here; what runs is a Predict of the signature's one input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from google.protobuf import text_format

from model_server.errors import Code, ServingError, invalid
from model_server.protos import DataType
from model_server.signatures import DEFAULT
from model_server.tensors import BY_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from model_server.servable import Servable
    from model_server.signatures import Signature

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
INPUT = "inputs"  # the name that TF Serving wants of the signature's input, serialized Examples [N]
CLASSES, SCORES, VALUES = "classes", "scores", "outputs"
_NOUNS = {CLASSIFY: "classification", REGRESS: "regression"}


class Task(NamedTuple):
    """One signature asked by one method: ``outputs`` are the names to fetch."""

    signature: Signature
    method: str
    outputs: list[str]


class Classifications(NamedTuple):
    """``labels`` [N, classes] object array of bytes, ``scores`` [N, classes] float32; one of them may be None."""

    labels: NDArray | None
    scores: NDArray | None

    def rows(self) -> Iterable[Iterable[tuple[bytes, np.float32]]]:
        """Each example's (label, score) pairs; a missing label is empty, a missing score is 0."""
        shape = (self.scores if self.labels is None else self.labels).shape  # type: ignore[union-attr]
        labels = np.full(shape, b"", object) if self.labels is None else self.labels
        scores = np.zeros(shape, np.float32) if self.scores is None else self.scores
        return map(zip, labels, scores)


def single(servable: Servable, name: str, method: str) -> Task:
    """What Classify or Regress asks of the signature ``name``. Raises ServingError."""
    signature = servable.signature(name)
    if signature is None:
        raise invalid(f"No signature was found with the name: {name or DEFAULT}")
    return _task(servable, signature, method)


def several(servable: Servable, asked: Iterable[Any]) -> list[Task]:
    """The tasks of a MultiInference, of which all read the same input tensor. Raises ServingError."""
    found: list[Task] = []
    model = feed = ""
    for task in asked:
        spec = task.model_spec
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if spec.name != (model or spec.name):
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        model = spec.name
        name = spec.signature_name or DEFAULT
        if any(name == other.signature.name for other in found):
            raise invalid(f"Duplicate evaluation of signature: {name}")
        signature = servable.signature(name)
        if signature is None:
            raise invalid(f"Requested signature not found in model graph: {name}")
        if task.method_name not in _NOUNS:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        found.append(_task(servable, signature, task.method_name))
        tensor = signature.proto.inputs[INPUT].name
        if tensor != (feed or tensor):
            raise invalid("Input tensor must be the same for all Signatures.")
        feed = tensor
    return found


def _task(servable: Servable, signature: Signature, method: str) -> Task:
    noun, outputs = _NOUNS[method], signature.outputs
    if servable.checks_method_names and signature.proto.method_name != method:
        raise invalid(f"Expected {noun} signature method_name to be {method}. Was: {signature.proto.method_name}")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if method == CLASSIFY and len(outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(outputs)}")
    if method == REGRESS and len(outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if INPUT not in signature.inputs:
        raise invalid(f"No {noun} inputs found in SignatureDef: {_shown(signature)}")
    wanted = [name for name in ((CLASSES, SCORES) if method == CLASSIFY else (VALUES,)) if name in outputs]
    if not wanted and method == CLASSIFY:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_shown(signature)}"
        )
    if not wanted:
        raise invalid(f"No regression outputs found in SignatureDef: {_shown(signature)}")
    return Task(signature, method, wanted)


def feed(sent: Any) -> dict[str, NDArray]:
    """The Input of a request, its Examples still serialized → the signature's input. Raises ServingError when empty.

    Context and example are merged by concatenation: the same as protobuf's merge, and what the example says wins.
    """
    kind = sent.WhichOneof("kind")
    found = getattr(sent, kind) if kind else None
    return strings(found.examples if found else [], found.context if found else b"")


def strings(examples: Iterable[bytes], context: bytes = b"") -> dict[str, NDArray]:
    serialized = [context + example for example in examples] if context else list(examples)
    if not serialized:
        raise invalid("Input is empty.")
    array = np.empty(len(serialized), object)
    array[:] = serialized
    return {INPUT: array}


def read(task: Task, outputs: Mapping[str, NDArray], examples: int) -> Classifications | NDArray:
    """Check what was answered: to Classify → Classifications, to Regress → float32 [N]. Raises INVALID_ARGUMENT."""
    return _values(outputs[VALUES], examples) if task.method == REGRESS else _classifications(outputs, examples)


def _classifications(outputs: Mapping[str, NDArray], examples: int) -> Classifications:
    labels, scores = outputs.get(CLASSES), outputs.get(SCORES)
    for name, array, dtype in ((CLASSES, labels, "DT_STRING"), (SCORES, scores, "DT_FLOAT")):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if _dtype(array) != dtype:
            raise invalid(f"Expected {name} Tensor of {dtype}. Got: {_dtype(array)}")
        if len(array) != examples:
            raise invalid(f"Expected {name} output batch size of {examples}. Got: {len(array)}")
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    return Classifications(labels, scores)


def _values(array: NDArray, examples: int) -> NDArray:
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array)}"
        )
    if len(array) != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {len(array)}")
    if _dtype(array) != "DT_FLOAT":
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(array)}")
    return array.reshape(examples)


def fill(result: Any, found: Classifications | NDArray) -> None:
    """Write a ClassificationResult or a RegressionResult."""
    if not isinstance(found, Classifications):
        for value in found.tolist():
            result.regressions.add(value=value)
        return
    for row in found.rows():
        classes = result.classifications.add().classes
        for label, score in row:
            classes.add(label=label.decode("utf-8", "replace"), score=float(score))  # proto3 strings are UTF-8


def _shown(signature: Signature) -> str:
    return text_format.MessageToString(signature.proto)


def _dtype(array: NDArray) -> str:
    return DataType.values_by_number[BY_DTYPE[array.dtype].enum].name


def _shape(array: NDArray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"
