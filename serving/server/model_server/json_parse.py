"""A request body → Python values: orjson where it can, and otherwise a parser with RapidJSON's leniency.

TF Serving parses with RapidJSON and reads ``NaN``, ``Inf`` and ``Infinity``, skips a byte order mark, ignores what
follows the top-level value, and takes the first of two equal keys. A body with one of these goes the slow way.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

from model_server.errors import invalid

_INF = re.compile(rb"([\[,:\s-])Inf(?=[\],}\s]|$)")
_KEYS = (b'"instances"', b'"inputs"', b'"signature_name"')
# json's messages → RapidJSON's (rapidjson/error/en.h).
_MESSAGES = (
    ("Expecting ',' delimiter", "Missing a comma or ']' after an array element."),
    ("Expecting property name", "Missing a name for object member."),
    ("Expecting ':' delimiter", "Missing a colon after a name of object member."),
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Invalid \\escape", "Invalid escape character in string."),
    ("Invalid control character", "Invalid encoding in string."),
)


def parse_body(body: bytes) -> dict[str, Any]:
    """The top-level object of a request. Raises ServingError INVALID_ARGUMENT with TF Serving's message."""
    if all(body.count(key) < 2 for key in _KEYS):
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = _parse_leniently(body)
    else:
        value = _parse_leniently(body)
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {debug_string(value)} Is not object")
    return value


def may_hold_bools(body: bytes) -> bool:
    """False where a body has neither ``true`` nor ``false``: looking for them value by value costs more than parsing."""
    return b"true" in body or b"false" in body


def _parse_leniently(body: bytes) -> Any:
    text = _INF.sub(rb"\1Infinity", body.removeprefix(b"\xef\xbb\xbf")).decode("utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise invalid("JSON Parse error: The document is empty")
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        reason = "Invalid value."
        for prefix, message in _MESSAGES:
            if error.msg.startswith(prefix):
                reason = message
        raise invalid(f"JSON Parse error: {reason} at offset: {error.pos}") from None
    except ValueError:  # 1e400, or as many digits
        raise invalid("JSON Parse error: Number too big to be stored in double.") from None
    return value


def _first_key_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        value.setdefault(key, item)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def _whole(text: str) -> int | float:
    """As orjson and RapidJSON: a number that no 64 bits hold is a double."""
    if len(text) > 20 or not -(1 << 63) <= (value := int(text)) < 1 << 64:
        return _finite(text)
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_first_key_wins, parse_float=_finite, parse_int=_whole, strict=False)


def debug_string(value: Any, *, indent: str = "") -> str:
    """A value as RapidJSON's PrettyWriter prints it: four spaces, lists on one line."""
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = indent + "    "
        items = ",\n".join(
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {debug_string(item, indent=inner)}"
            for key, item in value.items()
        )
        return f"{{\n{items}\n{indent}}}"
    if isinstance(value, list):
        return "[" + ", ".join(debug_string(item, indent=indent) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
