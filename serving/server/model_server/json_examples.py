"""JSON ↔ tf.Example: the bodies of ``:classify`` and ``:regress`` (tensorflow_serving/util/json_tensor.cc).

``{"context": {…}, "examples": [{"feature": value or list, …}, …]}``. A feature's type is its JSON type: whole numbers,
true and false are int64, decimal numbers float, strings and ``{"b64": …}`` bytes. ``{"x": 2}`` is therefore no float.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from model_server.errors import invalid
from model_server.examples import Classifications
from model_server.json_answers import number
from model_server.json_parse import debug_string
from model_server.json_tensors import decode_base64, json_type
from model_server.protos import Example

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INT64 = range(-(1 << 63), 1 << 63)
_UINT64 = range(1 << 64)


def serialized_examples(request: dict[str, Any]) -> tuple[list[bytes], bytes]:
    """A request's Examples and its context, serialized. Raises ServingError INVALID_ARGUMENT in TF Serving's words."""
    context = _example(request["context"]) if "context" in request else b""
    if "examples" not in request:  # TF Serving says "classify" to regress as well
        raise invalid(
            f"JSON Value: {debug_string(request)} When method is classify, key 'examples' is expected and was not found"
        )
    found = request["examples"]
    if not isinstance(found, list):
        raise invalid(f"JSON Value: {debug_string(request)} Expecting 'examples' value to be an list/array")
    if not found:
        raise invalid(f"JSON Value: {debug_string(request)} 'examples' value is an empty array")
    return [_example(value) for value in found], context


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example = Example()
    features = example.features.feature
    for name, content in value.items():
        try:
            _fill(features[name], name, content if isinstance(content, list) else [content])
        except UnicodeEncodeError:  # half a surrogate pair
            raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    return example.SerializeToString()


def _fill(feature: Any, name: str, values: list[Any]) -> None:
    kinds = {type(value) for value in values}
    if kinds == {float}:
        feature.float_list.value.extend(values)
        return
    for value in values:
        kind, item = _element(name, value)
        if feature.WhichOneof("kind") not in (None, kind):
            expected = feature.WhichOneof("kind").removesuffix("_list")
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
        getattr(feature, kind).value.append(item)


def _element(name: str, value: Any) -> tuple[str, Any]:
    """The list of a Feature that a JSON value belongs to, and what is put there."""
    if isinstance(value, (bool, int)):
        if value in _INT64:
            return "int64_list", int(value)
        if value in _UINT64:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        value = float(value)
    if isinstance(value, float):
        return "float_list", value
    if isinstance(value, str):
        return "bytes_list", value.encode("utf-8", "surrogateescape")
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str):
        return "bytes_list", decode_base64(value["b64"])
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")


def results(found: Classifications | NDArray) -> bytes:
    """The body of an answer: for each example a list of [label, score], or a number."""
    if not isinstance(found, Classifications):
        return b'{\n    "results": [' + ", ".join([number(float(value)) for value in found]).encode() + b"]\n}"
    rows = (
        b"["
        + b", ".join(b"[" + _text(label) + b", " + number(float(score)).encode() + b"]" for label, score in row)
        + b"]"
        for row in found.rows()
    )
    return b'{\n    "results": [' + b", ".join(rows) + b"\n    ]\n}"


def _text(label: bytes) -> bytes:
    try:
        return orjson.dumps(label.decode())
    except UnicodeDecodeError:  # its bytes are written as they are, as TF Serving does
        return json.dumps(label.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode(
            "utf-8", "surrogateescape"
        )
