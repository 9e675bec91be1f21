"""Abuse of both ports: a clear error or a closed connection, no crash, no traceback, and the next request is answered."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import random
import re
import resource
import socket
import struct
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.local import local_server
from tests.serving.deadlines import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serving.local import LocalServer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PREDICT = b"POST /v1/models/mlp:predict HTTP/1.1\r\nHost: a\r\n"
IDLE_SECONDS = 1


@pytest.fixture(scope="module")
def victim(repository_folder) -> Iterator[LocalServer]:
    flags = (f"--request_idle_seconds={IDLE_SECONDS}",)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))  # the server raises it
        try:
            server = local_server(repository_folder / "models.config", engine="litert", flags=flags)
            running = stack.enter_context(server)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        yield running


@pytest.fixture(autouse=True)
def still_answers(victim) -> Iterator[None]:
    """After every abuse: the same process answers on both ports, and its log has no traceback."""
    yield
    assert victim.process.poll() is None
    features = {"features": np.full((2, 30), 0.5, np.float32)}
    with RestClient(victim.rest_address) as rest, GrpcClient(victim.grpc_address) as grpc:
        np.testing.assert_allclose(
            rest.predict("mlp", features)["probability"], grpc.predict("mlp", features)["probability"], rtol=1e-5
        )
    log = victim.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-3000:]
    assert len(log) < 100_000


def exchange(port: int, data: bytes, *, seconds: float = 10) -> bytes:
    """Everything that comes back until the server closes or has been quiet for a while."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):  # the server may hang up while it is sent to
            connection.sendall(data)
        connection.settimeout(0.5 if seconds > 0.5 else seconds)
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                found += piece
    return found


def post(server: LocalServer, body: bytes, model: str = "mlp") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.rest_address, timeout=120)
    connection.request("POST", f"/v1/models/{model}:predict", body)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
@pytest.mark.parametrize("size", [1, 100, 5_000, 200_000])
def test_random_bytes(port, size, victim):
    exchange(getattr(victim, port), random.Random(size).randbytes(size))


@pytest.mark.parametrize(
    "data",
    [
        PREFACE + random.Random(1).randbytes(1000),
        PREFACE + b"\0\0\0\x04\0\0\0\0\0" * 20_000,  # a flood of SETTINGS
        PREFACE + b"\0\0\0\x04\0\0\0\0\0" + b"\xff\xff\xff\x01\x05\0\0\0\x01",  # headers of 16 MB announced
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS handshake where none is spoken
    ],
    ids=["rubbish after the preface", "settings flood", "huge frame", "HTTP/1.1", "TLS"],
)
def test_wrong_protocol_on_the_grpc_port(data, victim):
    exchange(victim.grpc_port, data)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /v1/models/mlp\r\n\r\n", 200),  # HTTP/0.9, in a way
        (PREDICT + b"Content-Length: -5\r\n\r\n", 400),
        (PREDICT + b"Content-Length: abc\r\n\r\nxx", 400),
        (PREDICT + b"Content-Length: 99999999999999999999999\r\n\r\nxx", 400),
        (PREDICT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx", 400),
        (PREDICT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nxxxxx", 400),
        (PREDICT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET /v1/models/mlp HTTP/1.1\r\n" + b"X: y\r\n" * 2000 + b"\r\n", 200),
        (b"GET /v1/models/mlp HTTP/1.1\r\nX-Big: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
        (b"GET /v1/models/" + b"m" * 1_000_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /v1/models/mlp HTTP/1.1\r\n" + b"X: y\r\n" * 200_000 + b"\r\n", 431),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET http://a/v1/models/mlp HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (b"GET \xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ],
)
def test_malformed_http(data, status, victim):
    answer = exchange(victim.rest_port, data)
    assert b" 500 " not in answer[:20]
    # A client that is cut off in the middle of a megabyte may lose the answer.
    if status is not None and (answer or len(data) < 100_000):
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:100]


@pytest.mark.slow
def test_half_requests_held_open_are_cut_off_and_hinder_nobody(victim):
    """Slowloris: connections that never finish a request, in every stage of one."""
    stages = {
        victim.rest_port: [b"", b"POST /v1/mod", PREDICT, PREDICT + b"Content-Length: 100\r\n\r\n", PREDICT
                           + b"Content-Length: 100\r\n\r\n{\"instances\""],
        victim.grpc_port: [b"", PREFACE[:10], PREFACE],
    }  # fmt: skip
    held = []
    for port, starts in stages.items():
        for start in starts * 20:
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            connection.sendall(start)
            held.append((port, start, connection))
    post(victim, b'{"instances": [[' + b", ".join([b"0.5"] * 30) + b"]]}")
    for port, start, connection in held:
        if port == victim.rest_port and start:
            answer = connection.recv(1000)
            assert answer.startswith(b"HTTP/1.1 408 "), (start, answer)
            assert b"nothing came for 1 s in the middle of a request" in answer
        connection.close()


@pytest.mark.slow
def test_thousand_connections_at_once(victim):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    body = json.dumps({"instances": [[0.5] * 30]}).encode()
    request = PREDICT + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", victim.rest_port), timeout=60))
            for _ in range(1000)
        ]
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", victim.grpc_port), timeout=60))
            for _ in range(1000)
        ]
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        with GrpcClient(victim.grpc_address) as grpc:
            assert grpc.status("mlp")
        assert len(idle) == 1000


def test_pipelined_requests_are_answered_in_order(victim):
    paths = [b"mlp", b"nothing", b"cnn"] * 30
    requests = b"".join(b"GET /v1/models/%s HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths)
    answer = exchange(victim.rest_port, requests)
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"404", b"200"] * 30


@pytest.mark.slow
@pytest.mark.parametrize("size", [20_000_000, pytest.param(100_000_000, marks=pytest.mark.ci)])
@pytest.mark.parametrize("kind", ["numbers", "rubbish", "one string", "blanks"])
def test_large_body_leaves_little_behind(kind, size, victim):
    body = {
        "numbers": lambda: b'{"instances": [' + b"1.0," * (size // 4) + b"1.0]}",
        "rubbish": lambda: b"x" * size,
        "one string": lambda: b'{"instances": "' + b"a" * size + b'"}',
        "blanks": lambda: b" " * size,
    }[kind]()
    process = psutil.Process(victim.process.pid)
    post(victim, b"{}")
    before = process.memory_info().rss
    status, answer = post(victim, body)
    assert status == 400
    assert b'"error": ' in answer[:100]
    del body, answer
    gc.collect()
    # Not all of it: the allocator keeps some for the next large request, and does not grow when that comes.
    wait_for(lambda: process.memory_info().rss - before < 2.6 * size, "the memory is given back")


@pytest.mark.parametrize("depth", [500, 1_100, 10_000, 100_000])
@pytest.mark.parametrize(
    ("opening", "inside", "closing"),
    [("[", "1.0", "]"), ('{"a":', "1", "}"), ("[", "", ""), ('[{"b64":', '"aa"', "}]"), ("[", "NaN", "]")],
)
def test_deeply_nested_json_is_a_client_error(depth, opening, inside, closing, victim):
    value = opening * depth + inside + closing * depth
    for key in ("instances", "inputs", "x"):
        status, answer = post(victim, f'{{"{key}": {value}}}'.encode())
        assert status == 400
        assert b'"error": ' in answer


@pytest.mark.parametrize(
    "leave",
    [
        lambda s: None,
        lambda s: s.shutdown(socket.SHUT_WR),
        lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
    ],
    ids=["close", "half close", "reset"],
)
def test_clients_that_leave_in_the_middle(leave: Callable[[socket.socket], None], victim):
    body = json.dumps({"instances": [[330.0]] * 52}).encode()
    whole = b"POST /v1/models/lstm:predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for data in (PREDICT, PREDICT + b"Content-Length: 1000\r\n\r\n{", whole, whole[:-1], whole * 50):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", victim.rest_port), timeout=10) as connection:
                connection.sendall(data)
                leave(connection)
    for data in (PREFACE, PREFACE + b"\0\0\0\x04\0\0\0\0\0"):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", victim.grpc_port), timeout=10) as connection:
                connection.sendall(data)
                leave(connection)


@pytest.mark.slow
def test_client_that_never_reads_its_answers(victim):
    """Its answers pile up in its own connection's buffers, up to a limit, and nobody else waits for it."""
    # So long that a few hundred fill what the server takes at once: it answers all that it has read.
    request = b"GET /v1/models/mlp/metadata HTTP/1.1\r\nHost: a\r\nX-More: %s\r\n\r\n" % (b"a" * 4000)
    before = psutil.Process(victim.process.pid).memory_info().rss
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # little is answered before all is full
        connection.settimeout(1)
        connection.connect(("127.0.0.1", victim.rest_port))

        def ask_for_ever() -> None:
            for _ in range(20_000):  # 80 MB
                connection.sendall(request)

        with pytest.raises(TimeoutError):
            ask_for_ever()
        started = time.monotonic()
        with RestClient(victim.rest_address) as rest:
            assert rest.status("mlp")
        assert time.monotonic() - started < 20
        assert psutil.Process(victim.process.pid).memory_info().rss - before < 100 << 20


def test_many_failing_requests_leave_no_trace(victim):
    connection = http.client.HTTPConnection(victim.rest_address, timeout=30)
    for _ in range(1000):
        connection.request("POST", "/v1/models/none:predict", b'{"instances": [1]}')
        answer = connection.getresponse()
        assert (answer.status, answer.read()[:10]) == (404, b'{\n    "err')
    connection.close()
