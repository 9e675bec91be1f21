"""Errors as TF Serving reports them: a code of google.rpc.Code, and the server's message.

ServingError             a request that is answered with an error
├── ServableError        a version that cannot be loaded
└── ConfigError          a config that cannot be served; nothing has changed
StartError               the server cannot start; one sentence on stderr, exit code 1
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """google.rpc.Code, the numbers that gRPC puts into ``grpc-status``."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# TF Serving's mapping (tensorflow_serving/model_servers/http_server.cc, ToHTTPStatusCode). What is not here is 500.
HTTP_STATUS = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ABORTED: 409,
    Code.ALREADY_EXISTS: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


class ServingError(Exception):
    """A request's error: ``code`` and the message that the client gets."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        return HTTP_STATUS.get(self.code, 500)


class ServableError(ServingError):
    """A version that cannot be loaded; its status becomes END with this code and message."""


class ConfigError(ServingError):
    """A config that cannot be served: the message that a reload call gets, and the ``remedy`` for whoever starts it."""

    def __init__(self, message: str, *, remedy: str, code: Code = Code.INVALID_ARGUMENT) -> None:
        super().__init__(code, message)
        self.remedy = remedy


class StartError(Exception):
    """The server cannot start: what was wrong, the value seen, the remedy."""


def invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
