"""Converter errors in plain words: one sentence instead of two pages of MLIR."""

from __future__ import annotations

import re

LONGEST = 300  # characters of a reason that are kept

# The converter's own lists: "TF Select ops: A, B", "Flex ops: A, B", "Custom ops: A"; single ops as "error: 'tf.A' op".
_LISTS = re.compile(r"(?:TF Select|Flex|Custom) ops: ([^\n]+)")
_SINGLE = re.compile(r"error: '(?:tf|tfl)\.(\w+)' op")
# Of the older quantizer, which int16x8 goes through.
_NO_RANGE = re.compile(
    r"(Max and min for dynamic tensors should be recorded during calibration): Failed for tensor (\S+)"
)
# Of tf_keras: a page of its own call stack around the one line that says what is wrong.
_IN_LAYER = re.compile(r'Exception encountered when calling layer "([^"]+)".*?\n\s*\w+Error: ([^\n]+)', re.DOTALL)


def plain_reason(message: str) -> str:
    """What a person needs of an exception's text: the operators that have no TFLite counterpart, or its first line."""
    names: list[str] = []
    for found in _LISTS.findall(message):
        names += [re.sub(r"^(Flex|tf\.)", "", op.strip()) for op in found.split(",")]
    names = names or _SINGLE.findall(message)
    if names:
        unique = ", ".join(sorted({n for n in names if n}))
        return f"TFLite has no built-in operator for {unique}; a server with TensorFlow can run this model"
    if found := _NO_RANGE.search(message):
        return (
            f"int16x8 needs a range for every tensor, and the calibrator records none for {found[2]!r}, which holds "
            f'no floats (the converter: "{found[1]}")'
        )
    if found := _IN_LAYER.search(message):
        message = f"{found[2].rstrip('.')} (in the layer {found[1]!r})"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = re.sub(r"^(?:/\S+\.py:\d+:\d+: |loc\(.*?\): |error: |<unknown>:0: )+", "", lines[0] if lines else "")
    return (text[:LONGEST] + "…") if len(text) > LONGEST else (text or "the TFLite converter gave no reason")
