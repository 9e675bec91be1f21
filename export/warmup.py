"""Warm-up requests: what a server runs before it calls a version available, so that no user meets the first, slow answer.

The file is TF Serving's: ``assets.extra/tf_serving_warmup_requests``, a TFRecord of PredictionLog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BATCHES = (1, 2, 8, 32)


def write_warmup(folder: Path, model: str, rows: dict[str, NDArray], *, batches: tuple[int, ...] = BATCHES) -> None:
    """One Predict request of ``serving_default`` per batch size, taken from ``rows`` (repeated where they are too few)."""
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in batches:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name, request.model_spec.signature_name = model, "serving_default"
            for name, values in rows.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(np.resize(values, (batch, *values.shape[1:]))))
            writer.write(log.SerializeToString())


def read_warmup(folder: Path) -> list[prediction_log_pb2.PredictionLog]:
    """The requests of a SavedModel's warm-up file; an empty list where there is none."""
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    if not path.is_file():
        return []
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
