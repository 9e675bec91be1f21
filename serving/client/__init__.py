"""Clients for any server that speaks TF Serving's protocols: NumPy in and out, no TensorFlow.

``RestClient`` and ``GrpcClient`` wait for answers, ``AsyncRestClient`` and ``AsyncGrpcClient`` are awaited; ``Split``
shares traffic between labels. They import nothing of this repository outside this folder.
"""

from serving.client.errors import ClientError, Refused, TimedOut, Unreachable
from serving.client.grpc import AsyncGrpcClient, GrpcClient
from serving.client.rest import AsyncRestClient, RestClient
from serving.client.split import Split

__all__ = [
    "AsyncGrpcClient",
    "AsyncRestClient",
    "ClientError",
    "GrpcClient",
    "Refused",
    "RestClient",
    "Split",
    "TimedOut",
    "Unreachable",
]
