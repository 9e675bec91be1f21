"""TF Serving's messages without TensorFlow: classes made from the descriptors in ``tensorflow_serving.binpb``.

They live in a descriptor pool of their own, so that TensorFlow, which registers the same names in the default pool,
can be imported beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    Path(__file__).with_name("tensorflow_serving.binpb").read_bytes()
).file:
    _POOL.Add(_file)


def message(name: str) -> Any:
    """The class of a message by its full name, for example ``tensorflow.TensorProto``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


TensorProto = message("tensorflow.TensorProto")
SavedModel = message("tensorflow.SavedModel")
SignatureDef = message("tensorflow.SignatureDef")
DataType = _POOL.FindEnumTypeByName("tensorflow.DataType")

PredictRequest = message("tensorflow.serving.PredictRequest")
PredictResponse = message("tensorflow.serving.PredictResponse")
GetModelStatusRequest = message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message("tensorflow.serving.GetModelStatusResponse")
GetModelMetadataRequest = message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = message("tensorflow.serving.SignatureDefMap")
ModelServerConfig = message("tensorflow.serving.ModelServerConfig")
PredictionLog = message("tensorflow.serving.PredictionLog")
POOL = _POOL
