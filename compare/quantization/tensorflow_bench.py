"""TensorFlowBench: the SavedModels on TensorFlow in Python, as the yardstick, and the float graphs to look into.

One process has one setting of threads, which cannot be changed once TensorFlow runs.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from compare.cold import one_row
from compare.quantization.lite_bench import timed
from lite.convert import Converter
from lite.variants import Variant
from models.artifacts import write_whole
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compare.bench import Block
    from export.bundle import Export


class TensorFlowBench:
    """``threads``: of one operator and between operators; None leaves TensorFlow's own choice, all cores."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._opened = cache(self._open)

    def open(self, export: Export) -> None:
        self._opened(export)

    def steady(self, export: Export, seconds: float) -> Block:
        """One block of calls of the signature: NumPy arrays in, NumPy arrays out, one row."""
        return timed(self._opened(export), seconds)

    def float_graph(self, export: Export, signature: str, recurrent: Literal["fused", "unrolled"], path: Path) -> None:
        """Write the unquantized .tflite of a signature, with the recurrent layer as the compared file has it."""
        self._tensorflow()
        with Converter(export, say=lambda _: None) as converter:  # it trains nothing here
            content, _ = converter.convert(Variant("float32", signature, recurrent=recurrent), signature)
        with write_whole(path) as temporary:
            temporary.write_bytes(content)

    def close_all(self) -> None:
        self._opened.cache_clear()

    def _tensorflow(self) -> Any:
        import tensorflow as tf

        threading = tf.config.threading
        if self._threads is not None and threading.get_intra_op_parallelism_threads() != self._threads:
            threading.set_intra_op_parallelism_threads(self._threads)
            threading.set_inter_op_parallelism_threads(self._threads)
        return tf

    def _open(self, export: Export) -> Callable[[], object]:
        tf = self._tensorflow()
        signature = export.description.get("brought", {}).get("signature", "serving_default")
        try:
            model = tf.saved_model.load(str(export.saved_model))
        except Exception as error:  # TensorFlow raises many kinds for a damaged SavedModel
            raise ModelError(f"TensorFlow cannot load {export.saved_model}; run `make deploy-all`") from error
        function, row = model.signatures[signature], one_row(export, signature)

        def call(_: object = model) -> object:  # its variables live as long as it does
            answers = function(**{name: tf.constant(value) for name, value in row.items()})
            return {name: value.numpy() for name, value in answers.items()}

        return call
