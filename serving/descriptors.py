"""Writes the protobuf descriptors of TF Serving's API as data, so that client and server need no TensorFlow.

    python -m serving.descriptors

The source is the installed tensorflow-serving-api. The two copies are equal: ``serving/server/`` ships alone.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2

from models.errors import run_cli

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor

HERE = Path(__file__).parent
COPIES = (HERE / "server/model_server/tensorflow_serving.binpb", HERE / "client/tensorflow_serving.binpb")
# The modules with the messages that are sent, stored or read. `prediction_service_pb2` and `model_service_pb2`
# are left out: they hold only services, and do not import with protobuf 4 and later.
MODULES = (
    "tensorflow_serving.apis.predict_pb2",
    "tensorflow_serving.apis.classification_pb2",
    "tensorflow_serving.apis.regression_pb2",
    "tensorflow_serving.apis.inference_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.get_model_status_pb2",
    "tensorflow_serving.apis.model_management_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.config.model_server_config_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
)


def describe() -> bytes:
    """A serialized FileDescriptorSet, each file after those that it imports."""
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for dependency in file.dependencies:
                add(dependency)
            found[file.name] = file

    for module in MODULES:
        add(importlib.import_module(module).DESCRIPTOR)
    files = descriptor_pb2.FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(files.file.add())
    return files.SerializeToString(deterministic=True)


def main() -> None:
    data = describe()
    for path in COPIES:
        path.write_bytes(data)
        print(f"{path}: {len(data)} bytes")


if __name__ == "__main__":
    run_cli(main)
