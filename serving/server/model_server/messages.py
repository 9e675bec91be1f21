"""The answers about models that REST and gRPC share, as protobuf messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_server.protos import GetModelMetadataResponse, GetModelStatusResponse, SignatureDefMap

if TYPE_CHECKING:
    from model_server.servable import Servable
    from model_server.states import VersionStatus


def status_message(versions: list[tuple[int, VersionStatus]]) -> Any:
    answer = GetModelStatusResponse()
    for version, status in versions:
        row = answer.model_version_status.add(version=version, state=int(status.state))
        row.status.error_code = int(status.code)
        row.status.error_message = status.message
    return answer


def signature_map(servable: Servable) -> Any:
    answer = SignatureDefMap()
    for name, signature in servable.signatures.items():
        answer.signature_def[name].CopyFrom(signature.proto)
    return answer


def metadata_message(servable: Servable) -> Any:
    """The model_spec has no signature name, and the SignatureDefMap is packed, as TF Serving answers."""
    answer = GetModelMetadataResponse()
    answer.model_spec.name = servable.name
    answer.model_spec.version.value = servable.version
    answer.metadata["signature_def"].Pack(signature_map(servable))
    return answer
