"""TF Serving's messages without TensorFlow: classes made from the descriptors in ``tensorflow_serving.binpb``.

They live in a descriptor pool of their own, so that TensorFlow, which registers the same names in the default pool,
can be imported beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FILES = descriptor_pb2.FileDescriptorSet.FromString(
    Path(__file__).with_name("tensorflow_serving.binpb").read_bytes()
).file
_POOL = descriptor_pool.DescriptorPool()
for _file in FILES:
    _POOL.Add(_file)


def _unparsed_examples() -> descriptor_pb2.FileDescriptorProto:
    """The requests of Classify, Regress and MultiInference with each Example left as bytes: the same on the wire.

    The graph (or example_parser.py) parses Examples; taking them apart and together again here would be waste. And an
    Example with each Feature left as bytes, a key that need not be UTF-8 among them. TF Serving has such a message of its own (tensorflow_serving/apis/internal/serialized_input.proto).
    """
    file = descriptor_pb2.FileDescriptorProto(name="model_server/examples.proto", package="model_server")
    file.dependency.extend(["tensorflow_serving/apis/model.proto", "tensorflow_serving/apis/inference.proto"])
    field = descriptor_pb2.FieldDescriptorProto

    def add(name: str, *fields: tuple[str, int, str | None, bool]) -> None:
        kind = file.message_type.add(name=name)
        for title, number, of, repeated in fields:
            added = kind.field.add(name=title, number=number, type=field.TYPE_MESSAGE if of else field.TYPE_BYTES)
            added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if of:
                added.type_name = of

    add("Examples", ("examples", 1, None, True), ("context", 2, None, False))
    examples = ".model_server.Examples"
    add("Input", ("example_list", 1, examples, False), ("example_list_with_context", 2, examples, False))
    kind = file.message_type[-1]
    kind.oneof_decl.add(name="kind")
    for member in kind.field:
        member.oneof_index = 0
    spec, task = ".tensorflow.serving.ModelSpec", ".tensorflow.serving.InferenceTask"
    add("ExamplesRequest", ("model_spec", 1, spec, False), ("input", 2, ".model_server.Input", False))
    add("MultiInferenceRequest", ("tasks", 1, task, True), ("input", 2, ".model_server.Input", False))
    add("Entry", ("key", 1, None, False), ("value", 2, None, False))
    add("Features", ("feature", 1, ".model_server.Entry", True))
    add("Example", ("features", 1, ".model_server.Features", False))
    return file


_POOL.Add(_unparsed_examples())


def message(name: str) -> Any:
    """The class of a message by its full name, for example ``tensorflow.TensorProto``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


def declare(name: str, **fields: str) -> Any:
    """The class of a message of TF Serving's config files that tensorflow-serving-api leaves out.

    ``fields`` maps each field to its type: a scalar ("bool", "int64"), or a message's full name, with "repeated " before
    it for a list. These files are text, so field numbers do not matter: they count from 1.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"model_server/{name}.proto", package="tensorflow.serving", syntax="proto3"
    )
    proto = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), 1):
        repeated, kind = kind.startswith("repeated "), kind.removeprefix("repeated ")
        row = proto.field.add(name=field, number=number, label=3 if repeated else 1)
        if "." in kind:
            row.type, row.type_name = row.TYPE_MESSAGE, f".{kind}"
            needed = _POOL.FindMessageTypeByName(kind).file.name
            if needed not in file.dependency:
                file.dependency.append(needed)
        else:
            row.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    _POOL.Add(file)
    return message(f"tensorflow.serving.{name}")


TensorProto = message("tensorflow.TensorProto")
MetaGraphDef = message("tensorflow.MetaGraphDef")
SignatureDef = message("tensorflow.SignatureDef")
DataType = _POOL.FindEnumTypeByName("tensorflow.DataType")

PredictRequest = message("tensorflow.serving.PredictRequest")
PredictResponse = message("tensorflow.serving.PredictResponse")
GetModelStatusRequest = message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message("tensorflow.serving.GetModelStatusResponse")
GetModelMetadataRequest = message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = message("tensorflow.serving.SignatureDefMap")
ReloadConfigRequest = message("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = message("tensorflow.serving.ReloadConfigResponse")
ModelServerConfig = message("tensorflow.serving.ModelServerConfig")
LogMetadata = message("tensorflow.serving.LogMetadata")
PredictionLog = message("tensorflow.serving.PredictionLog")
Example = message("tensorflow.Example")
InferenceTask = message("tensorflow.serving.InferenceTask")
ClassificationResponse = message("tensorflow.serving.ClassificationResponse")
RegressionResponse = message("tensorflow.serving.RegressionResponse")
MultiInferenceResponse = message("tensorflow.serving.MultiInferenceResponse")
UnparsedExample = message("model_server.Example")
FloatList = message("tensorflow.FloatList")
Int64List = message("tensorflow.Int64List")
ExamplesRequest = message("model_server.ExamplesRequest")
MultiInferenceRequest = message("model_server.MultiInferenceRequest")
POOL = _POOL
