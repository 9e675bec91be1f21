"""``python -m loadtest.master WORKERS``: Locust's master, driven by lines of JSON; ``loadtest.generator`` is what starts it.

A line of stdin is a plan; the answers are {"started": time.time()} when the schedule starts, then {"parts": […]} of the
workers; or {"error": sentence} when the plan cannot be run, {"ended": sentence} when a worker can't. It starts the workers, and ends with them when stdin ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import locust  # noqa: F401  # isort: skip  # first: it patches the process for gevent

import gevent
from gevent.event import Event
from gevent.fileobject import FileObject
from gevent.queue import Queue
from locust.env import Environment

from deploy.ports import free_ports

# Seconds: for the workers to import and to connect, on a busy machine; from "go" to the schedule's start; what a run
# may take beyond its schedule (patience for the last answers, histograms of a long run).
START_LIMIT_S, LEAD_S, BEYOND_S = 60.0, 0.2, 60.0


class Master:
    def __init__(self, workers: int) -> None:
        self._port = free_ports(1)[0]
        self._runner = Environment().create_master_runner("127.0.0.1", self._port)
        self._said: dict[str, Any] = {}
        self._all_said = Event()
        for kind in ("listening", "prepared", "part"):
            self._runner.register_message(kind, self._hear)
        self._processes = [
            subprocess.Popen([sys.executable, "-m", "loadtest.worker", str(self._port)], stdin=subprocess.PIPE)
            for _ in range(workers)
        ]

    def wait_for_workers(self) -> None:
        _, problem = self._answers(START_LIMIT_S)
        self._clients = sorted(self._said)
        tell(problem or {"ready": True})

    def run(self, plan: dict[str, Any]) -> None:
        workers = len(self._clients)
        shares = [{"plan": plan, "worker": number, "workers": workers} for number in range(workers)]
        _, problem = self._ask("prepare", shares, START_LIMIT_S)
        if not problem:
            start = time.time() + LEAD_S
            tell({"started": start})
            seconds = sum(stage["seconds"] for stage in plan["stages"]) + plan["seconds"]
            said, problem = self._ask("go", [{"start": start}] * workers, seconds + BEYOND_S)
        tell(problem or {"parts": said})

    def _ask(self, kind: str, messages: list[dict[str, Any]], limit: float) -> tuple[list[Any], dict[str, str]]:
        self._said.clear()
        self._all_said.clear()
        for client, data in zip(self._clients, messages, strict=True):
            self._runner.send_message(kind, data, client)
        return self._answers(limit)

    def _answers(self, limit: float) -> tuple[list[Any], dict[str, str]]:
        """The workers' answers in their order, and what to tell instead of them, empty when all is well. ``limit`` in seconds."""
        deadline = time.monotonic() + limit
        while not self._all_said.wait(1.0):
            if codes := [code for process in self._processes if (code := process.poll()) is not None]:
                return [], {"ended": f"a worker of the load ended with exit code {codes[0]}; run it again"}
            if time.monotonic() > deadline:
                said = f"a worker of the load did not answer within {limit:.0f} s; look at the load of the machine"
                return [], {"ended": said}
        answers = [self._said[client] for client in sorted(self._said)]
        return answers, next((answer for answer in answers if "error" in answer), {})

    def _hear(self, environment: Any, msg: Any) -> None:
        self._said[msg.node_id] = msg.data
        if len(self._said) == len(self._processes):
            self._all_said.set()


def tell(data: dict[str, Any]) -> None:
    print(json.dumps(data), flush=True)


def read_plans(plans: Queue) -> None:
    """Lines of stdin, until it ends: then whoever started this process is gone, and the workers see the same of theirs."""
    for line in FileObject(sys.stdin.fileno(), "r", close=False):
        plans.put(json.loads(line))
    os._exit(0)


def main() -> None:
    plans: Queue = Queue()
    gevent.spawn(read_plans, plans)
    master = Master(int(sys.argv[1]))
    master.wait_for_workers()
    for plan in plans:
        master.run(plan)


if __name__ == "__main__":
    main()
