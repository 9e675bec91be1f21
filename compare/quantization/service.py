"""What the edge service's HTTP and JSON cost: its CPU time per request, less that of the interpreter."""

from __future__ import annotations

import re
import socket
import statistics
import time
from typing import TYPE_CHECKING, Any

import httpx

from compare.cpu_time import cpu_seconds
from compare.own_services import own_services
from deploy.ports import port
from loadtest.questions import questions
from models.artifacts import artifacts_root
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from export.bundle import Export

VARIANT = "int8"  # the files that the deployment has the service run


def service_costs(
    exports: Sequence[Export], *, rounds: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """By model: CPU time of the service's processes per request on a kept-alive connection, the interpreter's part, and the rest.

    The service is the real one, on a free port, over the artefacts of this run; ``rounds`` blocks of ``seconds``, their
    median, and the least: a machine's other work only adds. The service itself counts what its interpreter takes (set,
    invoke, get); called in a loop of its own that would have the caches for itself and take less.
    """
    if not exports:
        return {}
    with own_services(artifacts_root(), serving=False) as unwell:
        found = {}
        for export in exports:
            try:
                if reason := unwell.get("edge"):
                    raise TargetError(reason)
                found[export.model] = _costs(_measure(export, rounds, seconds), None)
            except TargetError as error:
                found[export.model] = _costs([], str(error))
            tell(".")
        return found


def _measure(export: Export, rounds: int, seconds: float) -> list[tuple[float, float, int]]:
    """Of each block the CPU seconds of the service, those of its interpreter among them, and the number of requests."""
    asked = [question.request for question in questions(export, "rest")]
    worker = _get("/healthz").json()["pid"]
    _load(asked, seconds)  # warm-up
    blocks = []
    for _ in range(rounds):
        before = cpu_seconds(worker), _interpreter_seconds(export)
        answered = _load(asked, seconds)
        after = cpu_seconds(worker), _interpreter_seconds(export)
        if before[0] is None or after[0] is None:
            raise TargetError("the CPU time of the service's process cannot be read here")
        blocks.append((after[0] - before[0], after[1] - before[1], answered))
    return blocks


def _load(asked: Sequence[bytes], seconds: float) -> int:
    """Ask one after another for so long, by plain sockets: a client that works much slows down who answers it beside it.

    Returns the number of requests. Whether an answer is right, the target ``edge-http`` says.
    """
    answered, end = 0, time.perf_counter() + seconds
    try:
        with socket.create_connection(("127.0.0.1", port("EDGE_PORT")), timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while time.perf_counter() < end:
                connection.sendall(asked[answered % len(asked)])
                answer = connection.recv(1 << 16)  # a short one, written at once
                if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"}")):
                    raise TargetError(f"the edge service refused a request: {answer[:200].decode(errors='replace')}")
                answered += 1
    except OSError as error:
        raise TargetError(f"the edge service ended the connection ({error})") from error
    return answered


def _interpreter_seconds(export: Export) -> float:
    """CPU seconds inside the interpreter of a model so far."""
    labels = re.escape(f'{{model="{export.model}",version="{export.version}"}}')
    found = re.search(rf"^edge_interpreter_cpu_seconds_total{labels} (\S+)$", _get("/metrics").text, re.MULTILINE)
    if not found:
        raise TargetError("the edge service's metrics do not tell the CPU time of its interpreter")
    return float(found[1])


def _get(path: str) -> httpx.Response:
    try:
        return httpx.get(f"http://127.0.0.1:{port('EDGE_PORT')}{path}", trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise TargetError(f"the edge service does not answer ({error or type(error).__name__})") from error


def _costs(blocks: Sequence[tuple[float, float, int]], error: str | None) -> dict[str, Any]:
    def median_us(costs: list[float]) -> float | None:
        return statistics.median(costs) * 1e6 if costs else None

    own = [(cpu - interpreter) / n for cpu, interpreter, n in blocks]
    return {
        "request_cpu_us": median_us([cpu / n for cpu, _, n in blocks]),
        "interpreter_cpu_us": median_us([interpreter / n for _, interpreter, n in blocks]),
        "own_cpu_us": median_us(own),
        "least_own_cpu_us": min(own) * 1e6 if own else None,
        "n": sum(n for *_, n in blocks),
        "error": error,
    }
