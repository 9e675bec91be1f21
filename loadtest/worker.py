"""``python -m loadtest.worker PORT``: a Locust worker that runs its share of the plans that Locust's master sends.

It says "listening" once. From the master come "prepare" {"plan", "worker", "workers"}, which "prepared" answers,
and "go" {"start": time.time()}, which "part" answers, or {"error"} instead.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from loadtest.users import USERS  # isort: skip  # first: it patches the process for gevent

import gevent
from locust.env import Environment

from loadtest.drive import Drive
from loadtest.plan import Plan
from models.errors import ExportOnceError

if TYPE_CHECKING:
    from collections.abc import Callable


class Worker:
    def __init__(self, port: int) -> None:
        self._environment = Environment(user_classes=list(USERS.values()))
        self.runner = self._environment.create_worker_runner("127.0.0.1", port)
        self._drive: Drive | None = None
        self.runner.register_message("prepare", self._prepare, concurrent=True)
        self.runner.register_message("go", self._go, concurrent=True)
        self.runner.send_message("listening", {})

    def _prepare(self, environment: Any, msg: Any) -> None:
        self.runner.send_message("prepared", _told(lambda: self._open(msg.data)))

    def _go(self, environment: Any, msg: Any) -> None:
        self.runner.send_message("part", _told(lambda: self._run(msg.data["start"])))

    def _open(self, asked: dict[str, Any]) -> dict[str, Any]:
        plan = Plan.from_json(asked["plan"])
        self._drive = Drive(self._environment, plan, worker=asked["worker"], workers=asked["workers"])
        self._drive.prepare()
        return {}

    def _run(self, start: float) -> dict[str, Any]:
        assert self._drive is not None
        return self._drive.run(time.perf_counter() + start - time.time())


def _told(what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What it returns, or {"error": sentence}: an answer in any case, because the master waits for one."""
    try:
        return what()
    except ExportOnceError as error:
        return {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"the load generator failed with {type(error).__name__}: {error}"}


def exit_with_parent() -> None:
    """End this process when stdin ends: its other end is held by the parent, and the kernel closes it, however that ends."""
    gevent.get_hub().wait(gevent.get_hub().loop.io(sys.stdin.fileno(), 1))
    os._exit(0)


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one descriptor a connection
    gevent.spawn(exit_with_parent)
    Worker(int(sys.argv[1])).runner.greenlet.join()


if __name__ == "__main__":
    main()
