"""REST's transport: compression, connections, CORS, methods, limits on time and size."""

from __future__ import annotations

import gzip
import http.client
import json
import socket

import numpy as np
import pytest

from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from tests.serving.plain_http import FEATURES, MAX_REQUEST, http_answer, rows_json

CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET",
    "access-control-allow-headers": "Content-Type",
}


def test_gzip_and_keep_alive(server):
    connection = http.client.HTTPConnection(server.rest_address, timeout=30)
    for _ in range(3):
        connection.request(
            "POST",
            "/v1/models/mlp:predict",
            gzip.compress(rows_json(2)),
            {"content-encoding": "gzip", "accept-encoding": "gzip"},
        )
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("content-encoding") is None
        assert len(json.loads(answer.read())["predictions"]) == 2
        local = connection.sock.getsockname()
    assert connection.sock.getsockname() == local
    connection.close()


def test_cors_headers_only_when_asked_for(server, odd):
    running, _ = odd
    for method, path, body in (
        ("GET", "/v1/models/mlp", None),
        ("POST", "/v1/models/mlp:predict", rows_json(1)),
        ("POST", "/v1/models/none:predict", rows_json(1)),
    ):
        status, headers, answer = http_answer(server.rest_address, method, path, body)
        assert not CORS.keys() & headers.keys()
        with_cors = http_answer(running.rest_address, method, path, body)
        assert (status, answer) == (with_cors[0], with_cors[2])
        assert with_cors[1].items() >= CORS.items()


def test_preflight_needs_an_origin(server, odd):
    running, _ = odd
    path = "/v1/models/mlp:predict"
    for address, expected in ((server.rest_address, {}), (running.rest_address, CORS)):
        status, headers, body = http_answer(address, "OPTIONS", path, origin="https://example.org")
        assert (status, body) == (200, b"")
        assert {name: headers[name] for name in CORS.keys() & headers.keys()} == expected
        assert http_answer(address, "OPTIONS", path)[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("HEAD", "/v1/models/mlp", 400, ""),
        ("PUT", "/v1/models/mlp", 400, "Malformed request: PUT /v1/models/mlp"),
        ("BREW", "/v1/models/mlp", 501, "unknown method"),
        ("GET", "/v1/models/%6dlp", 200, "AVAILABLE"),
        ("GET", "/v1/models/m%zz", 404, "Could not find any versions of model m%zz"),
        ("GET", "/v1/models/%ff%00", 404, "Could not find any versions of model"),
        ("GET", "/", 404, "Not Found"),
    ],
)
def test_methods_and_escapes(method, path, status, text, server):
    found, _, body = http_answer(server.rest_address, method, path)
    assert found == status
    assert text in body.decode()


def test_request_over_its_time_is_504(odd):
    running, _ = odd
    body = json.dumps({"instances": np.ones((4_000, 40), np.int32).tolist()}).encode()
    status, _, answer = http_answer(running.rest_address, "POST", "/v1/models/transformer:predict", body)
    assert (status, json.loads(answer)) == (504, {"error": "Timed out waiting for notification"})
    assert http_answer(running.rest_address, "GET", "/v1/models/lstm")[0] == 200


def test_body_over_the_limit_is_413(odd):
    running, _ = odd
    request = b"POST /v1/models/mlp:predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (MAX_REQUEST * 2)
    with socket.create_connection(("127.0.0.1", running.rest_port), timeout=30) as connection:
        connection.sendall(request + b" " * (MAX_REQUEST + 1))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the request is larger than 1048576 bytes" in answer
    with RestClient(running.rest_address) as rest, GrpcClient(running.grpc_address) as client:
        features = {"features": np.ones((1, FEATURES), np.float32)}
        assert rest.predict("mlp", features).keys() == client.predict("mlp", features).keys()
