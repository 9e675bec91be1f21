"""REST's connections, without a model behind them (slow_rest.py), as clients meet them that are odd, slow or silent."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serving.deadlines import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "serving" / "server" / ".venv" / "bin" / "python"
KEEP_ALIVE = 1.0  # seconds
LARGE = 16 << 20  # bytes: an answer of slow_rest.py


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [PYTHON, Path(__file__).with_name("slow_rest.py"), str(KEEP_ALIVE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def connect(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    found.settimeout(10.0)
    found.connect(("127.0.0.1", port))
    return found


def connections(port: int) -> int:
    """Of others."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/connections", timeout=10.0) as answer:
        return int(answer.read()) - 1


def said(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            found += piece
    return found


@pytest.mark.parametrize("path", [b"/slow", b"/quick"])
@pytest.mark.parametrize(
    ("second", "status"),
    [
        (b"@@@ no request\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: 2000000\r\n\r\n" + b"x" * 2_000_000, b"413"),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 200_000, b"431"),
    ],
    ids=["no HTTP", "version", "large", "long head"],
)
def test_refused_request_leaves_the_answer_before_it_alone(path, second, status, port):
    with connect(port) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\n\r\n" % path)
        if path == b"/quick":
            assert connection.recv(1 << 16).endswith(b"/quick ")
        with contextlib.suppress(ConnectionError):  # it may be refused before it was sent
            connection.sendall(second)
        answers = said(connection)
    if path == b"/slow":
        first, answers = answers.split(b"/slow ")
        assert first.startswith(b"HTTP/1.1 200")
    assert answers.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("second", "status"), [(b"@@@ no request\r\n\r\n", b"400"), (b"BREW / HTTP/1.1\r\n\r\n", b"501")]
)
def test_what_is_no_request_and_what_is_an_unknown_method_in_one_piece_with_a_good_request(second, status, port):
    with connect(port) as connection:
        connection.sendall(b"GET /quick HTTP/1.1\r\n\r\n" + second)
        assert said(connection).split(b"/quick ")[1].startswith(b"HTTP/1.1 " + status)


def test_what_follows_a_last_request_is_not_looked_at(port):
    with connect(port) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nconnection: close\r\n\r\nGET /other HTTP/1.1\r\n\r\n")
        answers = said(connection)
    assert answers.startswith(b"HTTP/1.1 200")
    assert answers.endswith(b"/slow ")


@pytest.mark.parametrize("trailer", [b"a: b\r\n" * 100, b"a" * 600], ids=["many", "one"])
def test_trailers_without_end_are_refused(trailer, port):
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                connection.sendall(trailer)
            pytest.fail("all was taken")


def test_trailer_is_no_header(port):
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\nx\r\n0\r\n")
        connection.sendall(b"content-encoding: gzip\r\n\r\n")
        assert said(connection).endswith(b"/ x")


@pytest.mark.parametrize("expected", [b"100-continue", b"100-Continue"])
def test_client_that_waits_to_send_its_body_is_told_to(expected, port):
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nexpect: " + expected + b"\r\ncontent-length: 1\r\n\r\n")
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("header", [b"", b"connection: close\r\n"], ids=["keep-alive", "close"])
def test_client_that_does_not_read_is_let_go(header, port):
    with connect(port) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\n" + header + b"\r\n")
        wait_for(lambda: connections(port) == 1, "the connection")
        wait_for(lambda: connections(port) == 0, "its end")


@pytest.mark.slow
def test_client_that_reads_slowly_gets_all(port):
    with connect(port) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        got, begun = 0, time.monotonic()
        while got < LARGE and (piece := connection.recv(1 << 18)):
            got += len(piece)
            time.sleep(3.0 * len(piece) / LARGE)
        assert time.monotonic() - begun > 2.5
    assert got > LARGE


def test_port_that_is_taken_between_binding_and_listening_ends_the_start():
    program = """
import socket
from model_server.http1 import Http1Server
one, other = socket.socket(), socket.socket()
for each in one, other:
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
one.bind(("127.0.0.1", 0))
other.bind(one.getsockname())
one.listen()
Http1Server(None, [other], idle=1.0, max_bytes=1).start()
"""
    ended = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True, timeout=20.0, check=False)
    assert "StartError: REST cannot listen: Address already in use" in ended.stderr
