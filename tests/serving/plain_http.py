"""REST requests without the client in between, and the sizes that the tests of both transports share."""

from __future__ import annotations

import http.client
import json

FEATURES = 30  # of the mlp
MAX_REQUEST = 1 << 20  # bytes: the limit of the fixture ``odd``


def http_answer(address: str, method: str, path: str, body: bytes | None = None, **headers: str):
    """(status, headers in lower case, body)"""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def rows_json(rows: int) -> bytes:
    return json.dumps({"instances": [[0.5] * FEATURES] * rows}).encode()
