"""The variants of a .tflite file, as data: from which signature, with which recurrent layer, quantized and compressed how.

``static`` and ``core`` have batch 1, which fused operators, XNNPACK and LiteRT.js want; ``core`` works in normalised
units, because raw features of different size share one input scale in an int8 file and drown each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

SERVING = "serving_default"  # what every SavedModel has; stands in where ``static`` and ``core`` are missing


@dataclass(frozen=True)
class Variant:
    name: str
    signature: str
    quantization: Literal["none", "float16", "dynamic", "weight-only", "int8", "int16x8"] = "none"
    border: Literal["float", "integer"] = "float"  # integer: inputs and outputs are what is computed with inside
    recurrent: Literal["unrolled", "fused"] = "unrolled"  # fused: one stateful UNIDIRECTIONAL_SEQUENCE_LSTM
    compression: Literal["none", "qat", "pruned", "clustered"] = "none"  # trained further first, in lite/compress

    @property
    def integer(self) -> bool:
        """Whether activations are integers too."""
        return self.quantization in ("int8", "int16x8")

    @property
    def calibrated(self) -> bool:
        """Whether the activations' ranges come from calibration: quantization-aware training has learned them."""
        return self.integer and self.compression != "qat"

    def signature_in(self, signatures: Collection[str]) -> str:
        """The wanted one, or the nearest that there is: ``core`` → ``static`` → ``serving_default``."""
        wanted = [self.signature] if self.signature == SERVING else [self.signature, "static"]
        return next((name for name in wanted if name in signatures), SERVING)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("float32", "static"),
        Variant("float16", "static", "float16"),
        Variant("dynamic", "core", "dynamic"),
        # Unrolled, every step's rounding adds up over the 52 steps; fused, the cell state stays int16.
        Variant("int8", "core", "int8", "integer", recurrent="fused"),
        # LiteRT.js takes float32 and int32 alone, and has no fused LSTM.
        Variant("int8-inside", "core", "int8"),
        # int16 activations keep more of a value than int8; the fused LSTM has no such kernel, the unrolled steps have.
        Variant("int16x8", "core", "int16x8", "integer"),
        Variant("weight-only", "core", "weight-only"),
        Variant("qat", "core", "int8", "integer", recurrent="fused", compression="qat"),
        Variant("pruned", "core", compression="pruned"),
        Variant("clustered", "core", compression="clustered"),
        Variant("pruned-int8", "core", "int8", "integer", recurrent="fused", compression="pruned"),
        Variant("server", "serving_default"),  # batch free, for servers that resize per request
    )
}

# What `make convert` makes and the demo's targets run.
DEPLOYED = ("float32", "float16", "dynamic", "int8", "int8-inside", "server")
