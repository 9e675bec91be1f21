"""Convert SavedModels to TF.js graph models, one after the other, in one process.

Runs in the converter's own environment (Python 3.11 or 3.12, see pyproject.toml) and imports nothing else of the
project. ``web/convert.py`` starts it and speaks with it in lines of JSON:

    stdin   {"saved_model": path, "signature": name, "out": path}
            {"graph_model": path, "weights": "float16" | "uint8", "names": [...], "out": path}
    stdout  {"ready": "tensorflowjs 4.22.0"} once, then {"error": null | sentence} for each line read
"""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path

MODEL = "model.json"
SHARD_BYTES = 4 << 20
UNUSED = ("jax", "jax.experimental", "tensorflow_decision_forests")


def import_tensorflowjs() -> str:
    """Import the converter without the packages that it imports but does not need here; returns its version.

    jax is for ``convert_jax`` alone, and decision forests only register operations of their own models. The stand-ins
    are gone again after the import: Keras looks whether jax is there, so it is imported before.
    """
    import keras  # noqa: F401

    for name in UNUSED:
        sys.modules[name] = types.ModuleType(name)
    sys.modules["jax.experimental"].jax2tf = None  # type: ignore[attr-defined]
    try:
        import tensorflowjs
    finally:
        for name in UNUSED:
            del sys.modules[name]
    return tensorflowjs.__version__


def in_plain_words(error: BaseException) -> str:
    """The converter's own reason as one sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    if text.startswith("Unsupported Ops in the model before optimization"):
        return "TF.js has no kernel for these operations of the model: " + text.removeprefix(
            "Unsupported Ops in the model before optimization"
        ).strip(" :")
    return f"the TF.js converter refused the model: {text[:400]}"


def convert(*, saved_model: str, signature: str, out: str) -> None:
    from tensorflowjs.converters import converter

    converter.convert(
        [
            "--input_format=tf_saved_model",
            f"--signature_name={signature}",
            "--control_flow_v2=true",  # while loops stay loops; TF.js then answers with executeAsync
            f"--weight_shard_size_bytes={SHARD_BYTES}",
            saved_model,
            out,
        ]
    )
    if not (Path(out) / MODEL).is_file():
        raise RuntimeError(f"it wrote no {MODEL} for signature {signature!r}")


def store_otherwise(*, graph_model: str, weights: str, names: list[str], out: str) -> None:
    """A graph model with the weights ``names`` stored as ``weights``; they are float32 again in memory, as the others are.

    What ``--quantize_float16`` and ``--quantize_uint8`` of the converter do at the end of a whole conversion.
    """
    from tensorflowjs.read_weights import read_weights
    from tensorflowjs.write_weights import write_weights

    model = json.loads((Path(graph_model) / MODEL).read_text())
    groups = read_weights(model["weightsManifest"], graph_model)
    Path(out).mkdir()
    model["weightsManifest"] = write_weights(
        groups, out, shard_size_bytes=SHARD_BYTES, write_manifest=False, quantization_dtype_map={weights: names}
    )
    (Path(out) / MODEL).write_text(json.dumps(model))


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")  # the converter prints to stdout; the replies keep a channel of their own
    os.dup2(2, 1)
    version = import_tensorflowjs()

    def reply(message: dict[str, object]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    reply({"ready": f"tensorflowjs {version}"})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            store_otherwise(**request) if "graph_model" in request else convert(**request)
        except KeyboardInterrupt:
            return
        except (Exception, SystemExit) as error:  # whatever the converter raises is the answer to the request
            reply({"error": in_plain_words(error)})
        else:
            reply({"error": None})


if __name__ == "__main__":
    main()
