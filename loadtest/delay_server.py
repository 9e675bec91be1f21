"""A server whose latencies are known, because it makes them: REST predict of the mlp, each answer held back on purpose.

    python -m loadtest.delay_server normal [--seed 0]      # prints its address, ends with its standard input

A generator that is put on it must find the percentiles that ``GET /held`` tells: what each request really waited, from
its last byte in to its answer's first byte out. ``POST /stall`` has the whole process stand still for a second. Answers
are the evidence's, so a client that checks them has nothing to complain about.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import http.client
import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from export.bundle import find_exports
from models.artifacts import REPOSITORY
from models.errors import ModelError, TargetError, run_cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MODEL = "mlp"
LEAST_MS = 20.0
STALL_S = 1.0
# Delays in ms: (share, mean, standard deviation) of each mode. Long enough that the turns of a busy machine's scheduler,
# some milliseconds, are no error in them; no share is near a percentile that is compared.
DELAYS = {
    "normal": [(1.0, 200.0, 40.0)],
    "bimodal": [(0.75, 150.0, 20.0), (0.25, 500.0, 50.0)],
    "steady": [(1.0, 20.5, 0.2)],  # many requests in a short time, for the stall
}


def draw(kind: str, count: int, seed: int) -> NDArray:
    """Delays in seconds, none below LEAST_MS."""
    rng = np.random.default_rng(seed)
    modes = np.array(DELAYS[kind])
    chosen = modes[rng.choice(len(modes), size=count, p=modes[:, 0])]
    return np.maximum(rng.normal(chosen[:, 1], chosen[:, 2]), LEAST_MS) / 1e3


@dataclass(frozen=True)
class DelayServer:
    """A running delay server; ``address`` is host:port."""

    address: str

    def held_ms(self, *, since: float = 0.0) -> NDArray:
        """How long requests that came after ``since`` (time.time()) were held back, in ms and in their order."""
        held = np.array(self._ask("GET", "/held")).reshape(-1, 2)
        return held[held[:, 0] >= since, 1]

    def stall(self) -> None:
        """Nothing is read and nothing answered for STALL_S from now on."""
        self._ask("POST", "/stall")

    def _ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path)
            return json.load(connection.getresponse())
        finally:
            connection.close()


@contextlib.contextmanager
def delay_server(kind: str, *, seed: int = 0) -> Iterator[DelayServer]:
    """A delay server in a process of its own, on a free port of loopback, until the block ends. Raises TargetError."""
    command = [sys.executable, "-m", "loadtest.delay_server", kind, f"--seed={seed}"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise TargetError(f"the delay server ended with exit code {process.wait()}; its reason stands above")
        yield DelayServer(address)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


class _Answers:
    """The evidence's answers, by the bytes of the request's body."""

    def __init__(self) -> None:
        exports = find_exports(models=[MODEL])
        if not exports:
            raise ModelError(f"there is no export of {MODEL} to answer as; run `make deploy-all` to make it")
        case = exports[-1].evidence.cases()[0]
        ((self._name, self._inputs),) = case.inputs.items()
        ((_, self._outputs),) = case.outputs.items()
        self._known: dict[bytes, bytes] = {}

    def __call__(self, body: bytes) -> bytes | None:
        """None for a row that is not in the evidence."""
        if body not in self._known:
            rows = [row[self._name] if isinstance(row, dict) else row for row in json.loads(body)["instances"]]
            same = (np.array(rows, np.float32)[:, None] == self._inputs[None]).all(axis=2)
            if not same.any(axis=1).all():
                return None
            answer = {"predictions": self._outputs[same.argmax(axis=1)].tolist()}
            self._known[body] = json.dumps(answer).encode()
        return self._known[body]


class _Connection(asyncio.Protocol):
    """HTTP/1.1, one request at a time."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._server.asked(self, head.split(b" ", 2)[1], rest[:length], now)

    def answer(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)


class _Server:
    def __init__(self, kind: str, seed: int) -> None:
        self._answers = _Answers()
        self._delays = iter(draw(kind, 1_000_000, seed).tolist())
        self._held: list[tuple[float, float]] = []  # when it came (time.time()), and for how many ms it was held

    def asked(self, connection: _Connection, path: bytes, body: bytes, now: float) -> None:
        if path == b"/held":
            connection.answer(b"200 OK", json.dumps(self._held).encode())
        elif path == b"/stall":
            connection.answer(b"200 OK", b"{}")
            time.sleep(STALL_S)
        elif (answer := self._answers(body)) is None:
            connection.answer(b"400 Bad Request", b'{"error": "this row is not in the evidence; send one that is"}')
        else:
            came = time.time()
            loop = asyncio.get_running_loop()

            def send() -> None:
                self._held.append((came, (loop.time() - now) * 1e3))
                connection.answer(b"200 OK", answer)

            loop.call_at(now + next(self._delays), send)


async def _serve(kind: str, seed: int) -> None:
    server = _Server(kind, seed)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", 0, backlog=1024)
    host, port = listening.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)
    gc.collect()
    gc.disable()  # a collection would be a delay that nobody asked for
    await loop.run_in_executor(None, sys.stdin.read)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtest.delay_server", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=DELAYS, help="how the delays are distributed")
    parser.add_argument("--seed", type=int, default=0, help="of the delays; default 0")
    options = parser.parse_args(argv)
    # Before others on a busy machine, where this user may: what waits for a core is no delay that was made here.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    # select() waits for microseconds, epoll only for whole milliseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_serve(options.kind, options.seed))


if __name__ == "__main__":
    run_cli(main)
