"""A LiteModel in an environment of its own, asked over its pipes: the process there, and the messages of both ends.

Started as ``python -m compare.lite_child``; it imports NumPy and edge/ alone. A message is a line of JSON that ends with
the number of bytes of .npz behind it:

    {"do": "load", "path": …}                        → {"runtime": …, "sha256": …, "bytes": …, "threads": …}
    {"do": "warm_up" | "close", "path": …}           → {}
    {"do": "predict", "path": …} + inputs            → {} + outputs
    {"do": "time", "path": …, "calls": n} + inputs   → {} + seconds [n], measured here: no pipe is in them

An error is ``{"error": sentence}``. The first message comes unasked: ``{"ready": "tflite-runtime 2.14.0"}``.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edge.errors import EdgeError
from edge.interpreters import import_runtime
from edge.runtime import LiteModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge.runtime import Tensors


def write_message(pipe: IO[bytes], message: dict[str, Any], tensors: Tensors | None = None) -> None:
    file = io.BytesIO()
    if tensors:
        np.savez(file, **tensors)  # type: ignore[arg-type]  # NumPy's stub takes them for its flag
    content = file.getvalue()
    pipe.write(json.dumps({**message, "npz": len(content)}).encode() + b"\n" + content)
    pipe.flush()


def read_message(pipe: IO[bytes]) -> tuple[dict[str, Any], Tensors] | None:
    """None when the other end is gone."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    message = json.loads(line)
    content = pipe.read(message.pop("npz"))
    if not content:
        return message, {}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return message, dict(arrays)


def answer(models: dict[str, LiteModel], message: dict[str, Any], inputs: Tensors) -> tuple[dict[str, Any], Tensors]:
    """Raises EdgeError."""
    todo, path = message["do"], message["path"]
    if todo == "load":
        model = models[path] = LiteModel(Path(path), threads=message["threads"])
        return {"runtime": model.runtime, "sha256": model.sha256, "bytes": model.bytes, "threads": model.threads}, {}
    if todo == "predict":
        return {}, models[path].predict(inputs)
    if todo == "time":
        return {}, {"seconds": _time(models[path], inputs, message["calls"])}
    if todo == "warm_up":
        models[path].warm_up()
    elif todo == "close":
        del models[path]
    return {}, {}


def _time(model: LiteModel, inputs: Tensors, calls: int) -> NDArray:
    seconds = np.empty(calls)
    for i in range(calls):
        start = time.perf_counter()
        model.predict(inputs)
        seconds[i] = time.perf_counter() - start
    return seconds


def main() -> None:
    """``sys.argv[1]``: the runtime, imported before anybody waits for a model."""
    replies = os.fdopen(os.dup(1), "wb")  # a runtime may print to stdout; the replies keep a channel of their own
    os.dup2(2, 1)
    models: dict[str, LiteModel] = {}
    try:
        write_message(replies, {"ready": import_runtime(sys.argv[1])[0]})
    except EdgeError as error:
        write_message(replies, {"error": str(error)})
        return
    while request := read_message(sys.stdin.buffer):
        try:
            reply, tensors = answer(models, *request)
        except EdgeError as error:
            reply, tensors = {"error": str(error)}, {}
        write_message(replies, reply, tensors)


if __name__ == "__main__":
    main()
