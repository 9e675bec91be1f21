"""The process that converts, one job per line: JSON in on stdin, JSON out on the stdout it was started with.

``{"root", "model", "version", "variant", "signature", "output"}``, for the curve of lite/calibration.py also
``"calibrate": {"rows", "source"}`` → any number of ``{"progress"}``, then ``{"has_recurrent",
"calibration", "compression", "error", "errno"}``. It is a process of its own because the converter can crash (SIGSEGV); it
stays alive because importing TensorFlow takes seconds.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from export.bundle import Export
from lite.calibration import samples
from lite.convert import Converter
from lite.inspect import inspect_tflite
from lite.reasons import plain_reason
from lite.variants import VARIANTS

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)  # the machine's fault, not the model's


def main() -> None:
    # What C++ prints on stdout must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    current: tuple[tuple[Export, dict[str, Any] | None], Converter] | None = None

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    for line in sys.stdin:
        job = json.loads(line)
        export = Export(Path(job["root"]), job["model"], job["version"])
        answer: dict[str, Any] = {"has_recurrent": False, "error": None, "errno": None}
        try:
            wanted = (export, job.get("calibrate"))
            if current is None or current[0] != wanted:
                if current:
                    current[1].__exit__()
                current = None
                rows = samples(export, **wanted[1]) if wanted[1] else None
                current = (wanted, Converter(export, lambda text: say({"progress": text}), calibration=rows))
            answer["has_recurrent"] = current[1].has_recurrent()
            content, done = current[1].convert(VARIANTS[job["variant"]], job["signature"])
            answer |= done
            answer["error"] = _cannot_run(content)
            if answer["error"] is None:
                Path(job["output"]).write_bytes(content)
        except Exception as error:
            answer["error"] = plain_reason(f"{error}" or type(error).__name__)
            if isinstance(error, OSError) and error.errno in _DISK:
                answer["errno"] = error.errno
        say(answer)
    if current:
        current[1].__exit__()


def _cannot_run(content: bytes) -> str | None:
    """Why a file that the converter was content with cannot be run (seen: operators without a kernel, string tensors)."""
    from ai_edge_litert.interpreter import Interpreter

    found = inspect_tflite(content)
    custom = [op for op in found["ops"] if op.startswith("Flex")]
    if custom:
        return plain_reason("Flex ops: " + ", ".join(custom))
    strings = [tensor["name"] for tensor in (*found["inputs"], *found["outputs"]) if tensor["dtype"] == "string"]
    if strings:
        return f"{strings[0]!r} holds strings, and .tflite files here hold numbers only; a server with TensorFlow can run this model"
    try:
        Interpreter(model_content=content).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        return f"LiteRT cannot load the converted file: {plain_reason(str(error))}"
    return None


if __name__ == "__main__":
    main()
