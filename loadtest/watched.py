"""The service that a load is put on, seen from outside: that it serves the model at all, its CPU time and its memory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx
import psutil

from compare.cpu_time import cpu_seconds
from compare.targets import edge, serving
from compare.targets.serving import server_process
from loadtest.services import find_service
from models.errors import TargetError

if TYPE_CHECKING:
    from compare.target import Target
    from export.bundle import Export

TARGETS: dict[str, Target] = {target.name: target for target in (*serving.TARGETS, *edge.TARGETS)}
PATIENCE_S = 10.0


class Watched:
    """The process that answers ``target``, None where it runs elsewhere or in a container.

    Raises TargetError, with the remedy, when nothing answers there or it does not serve the export.
    """

    def __init__(self, target: str, export: Export) -> None:
        self._pid: int | None = _web(export) if target == "web-http" else _served(TARGETS[target], export)
        self._before = self._cpu()

    def _cpu(self) -> float | None:
        return None if self._pid is None else cpu_seconds(self._pid)

    def cost(self, requests: int) -> dict[str, float | int | None] | None:
        """CPU time per request since this object was made, µs, and resident memory now; None without a process to see."""
        after = self._cpu()
        if after is None or self._before is None or self._pid is None:
            return None
        rss = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._pid)
            rss = sum(member.memory_info().rss for member in [process, *process.children(recursive=True)])
        return {
            "cpu_us": (after - self._before) * 1e6 / requests if requests else None,
            "rss_bytes": rss or None,
        }


def _served(target: Target, export: Export) -> int | None:
    if reason := target.unavailable():
        raise TargetError(reason)
    with target.open(export) as session:
        pid = session.facts().get("pid")
    return pid if isinstance(pid, int) else None


def _web(export: Export) -> int | None:
    address = find_service("web-http").address
    url = f"http://{address}/api/serving/v1/models/{export.model}"
    try:
        answer = httpx.get(url, timeout=PATIENCE_S, trust_env=False)
    except httpx.HTTPError:
        raise TargetError(f"no web app answers at {address}; run `make deploy-all` to start it") from None
    if answer.status_code != 200:
        raise TargetError(f"{url} answers {answer.status_code}: {answer.text[:200].strip()}; see `make status`")
    process = server_process(int(address.rpartition(":")[2]))
    return process.pid if process else None
