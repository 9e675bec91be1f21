"""What a call can end in. Each error has ``code``, gRPC's name for it, and ``message``, the server's own words.

ClientError
├── Unreachable       nobody answers at that address
├── TimedOut          no answer within the time limit
└── Refused           the server answered with an error
"""

from __future__ import annotations


class ClientError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Unreachable(ClientError):
    def __init__(self, address: str, reason: str) -> None:
        super().__init__("UNAVAILABLE", f"no server answers at {address} ({reason}); start it or give another address")


class TimedOut(ClientError):
    def __init__(self, address: str, seconds: float) -> None:
        super().__init__(
            "DEADLINE_EXCEEDED", f"{address} gave no answer within {seconds:g} s; allow more or look at its log"
        )


class Refused(ClientError):
    pass
