"""One worker's share of a plan: the open loop by its schedule, or the closed loop of its users."""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import gevent

from loadtest.cpu_watch import CpuWatch
from loadtest.null_servers import overhead_us
from loadtest.samples import NOTHING, Samples
from loadtest.schedule import arrivals
from loadtest.timer import Timer
from loadtest.users import LOST, PATIENCE_S, USERS, questions_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtest.plan import Plan
    from loadtest.users import AskingUser

# Connections of a worker before the schedule starts, as seconds of requests in flight; more are opened when all are busy.
READY_S, READY_AT_LEAST = 0.02, 2
# A server that stands still for a second at 1000 requests per second; then requests wait, and count as late.
CONNECTIONS = 1000
# A schedule that is so far behind at its end is given up, seconds; one that is so far behind lets others go first again,
# lest a rate that cannot be kept takes the whole machine.
GIVE_UP_S, BEHIND_S = 2.0, 0.1
# A user of a closed loop that was refused asks again after this, seconds: a refusal costs nothing, so it would spin.
REFUSED_PAUSE_S = 0.01
# The scheduler lets answers in after this many requests that were due at once.
AT_ONCE = 32


class Drive:
    """``prepare`` opens connections and asks once on each, uncounted; ``run`` keeps to the schedule.

    ``worker`` is this one's number of ``workers``.
    """

    def __init__(self, environment: Any, plan: Plan, *, worker: int, workers: int) -> None:
        self._environment, self._plan = environment, plan
        self._worker, self._workers = worker, workers
        self._questions = questions_for(plan.target, plan.model, plan.label)
        self._random = Random(f"{plan.seed}/{worker}")
        self._free: list[AskingUser] = []
        self._users = 0
        self._waiting: deque[tuple[int, float]] = deque()
        self._in_flight: dict[int, float] = {}  # when they were due, by their number in the schedule
        self._scheduled = 0  # given to a connection, or waiting for one
        self._give_up = 0.0
        self._samples = Samples()
        self._due = arrivals(plan, worker=worker, workers=workers).tolist() if plan.loop == "open" else []

    def prepare(self) -> None:
        if self._plan.loop == "open":
            peak = max(stage.rate for stage in self._plan.stages) / self._workers
            count = min(CONNECTIONS, max(READY_AT_LEAST, int(peak * READY_S)))
        else:
            count = len(range(self._worker, self._plan.users, self._workers))
        users = [self._new_user() for _ in range(count)]
        gevent.joinall([gevent.spawn(user.ask, self._questions[0]) for user in users])
        if self._plan.loop == "open":
            users = [user for user in users for _ in range(user.at_once)]
        self._overhead_us = overhead_us(USERS[self._plan.target], self._environment, self._questions[0])
        self._free = users
        gc.collect()

    def run(self, start: float) -> dict[str, Any]:
        """From ``start``, a moment of time.perf_counter(); what was seen, for Locust's master."""
        with _punctual() as first:
            end = start + self._plan.duration
            self._give_up = end + GIVE_UP_S
            cpu = CpuWatch()
            watching = gevent.spawn(cpu.watch)
            try:
                unsent = self._open(start, end) if self._plan.loop == "open" else self._closed(start, end)
                seconds = time.perf_counter() - start
            finally:
                watching.kill()
                cpu.look()  # what follows is no load
        for due in self._in_flight.values():
            self._samples.add(due, latency=NOTHING, service=NOTHING, lateness=0.0, error=LOST)
        part = self._samples.part(self._plan.duration, late_s=self._plan.late_ms / 1e3, keep=self._plan.keep_samples)
        for user in self._free:
            user.close()
        return {
            **part,
            "unsent": unsent,
            "seconds": max(seconds, self._plan.duration),
            "overhead_us": self._overhead_us,
            "realtime": first,
            "cpu": cpu.worst(),
            "cpu_us": cpu.seconds() * 1e6 / max(1, part["sent"]),
        }

    def _new_user(self) -> AskingUser:
        self._users += 1
        user = USERS[self._plan.target](self._environment)
        if self._plan.address:
            user.address = self._plan.address
        return user

    # ------------------------------------------------------------ open loop

    def _open(self, start: float, end: float) -> int:
        """The number of requests that were never sent, because the schedule was given up."""
        timer = Timer()
        try:
            for number, due in enumerate(self._due):
                moment = start + due
                if time.perf_counter() < moment:
                    timer.wait_until(moment)
                elif number % AT_ONCE == 0:
                    gevent.sleep(0)
                    if (now := time.perf_counter()) > self._give_up:
                        break
                    if now > moment + BEHIND_S:
                        _go_first(False)
                self._send(number, due, moment)
                self._scheduled += 1
            timer.wait_until(end)
        finally:
            timer.close()
        self._wait_for_answers()
        return len(self._due) - self._scheduled + len(self._waiting)

    def _send(self, number: int, due: float, moment: float) -> None:
        if self._free:
            user = self._free.pop()  # the one used last: its connection is warm
        elif self._users < CONNECTIONS:
            user = self._new_user()
            self._free += [user] * (user.at_once - 1)
        else:
            self._waiting.append((number, due))
            return
        self._in_flight[number] = due
        gevent.spawn_raw(self._answer, user, number, due, moment - due)

    def _answer(self, user: AskingUser, number: int, due: float, start: float) -> None:
        while True:
            self._ask(user, number, due, start)
            del self._in_flight[number]
            if not self._waiting or time.perf_counter() > self._give_up:
                break
            number, due = self._waiting.popleft()
            self._in_flight[number] = due
        self._free.append(user)

    def _wait_for_answers(self) -> None:
        deadline = time.perf_counter() + PATIENCE_S + 1
        while self._in_flight and time.perf_counter() < deadline:
            gevent.sleep(0.005)

    # ------------------------------------------------------------ closed loop

    def _closed(self, start: float, end: float) -> int:
        gevent.joinall([gevent.spawn(self._again, user, start, end) for user in self._free])
        gevent.sleep(
            max(0.0, end - time.perf_counter())
        )  # a worker without a user rests, and its CPU share is that of the run
        return 0

    def _again(self, user: AskingUser, start: float, end: float) -> None:
        timer = Timer()
        timer.wait_until(start)
        timer.close()
        number = 0
        while (now := time.perf_counter()) < end:
            if not self._ask(user, number, now - start, start):
                gevent.sleep(REFUSED_PAUSE_S)
            number += 1

    # ------------------------------------------------------------ both

    def _ask(self, user: AskingUser, number: int, due: float, start: float) -> bool:
        """Ask, check, and note one request; whether its answer was good."""
        question = self._questions[number % len(self._questions)]
        sent = time.perf_counter()
        try:
            error, body = user.ask(question)
        except Exception as problem:  # a fault of the client counts as a failed request, not as one never asked
            error, body = f"{type(problem).__name__}: {problem}", b""
        answered = time.perf_counter()
        if error is None and self._random.random() < self._plan.check:
            self._samples.checked += 1
            error = question.wrong(body)
            self._samples.wrong += error is not None
        moment = start + due
        self._samples.add(due, latency=answered - moment, service=answered - sent, lateness=sent - moment, error=error)
        return error is None


@contextmanager
def _punctual() -> Iterator[bool]:
    """Nothing that is not the server's: no collections, and this thread before all others. Yields whether that is allowed (root).

    Niceness would do little, because Linux weighs sessions.
    """
    gc.disable()
    try:
        yield _go_first(True)
    finally:
        _go_first(False)
        gc.enable()


def _go_first(yes: bool) -> bool:
    """Real-time scheduling of this thread, or the usual one; whether it was set."""
    try:
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK if yes else os.SCHED_OTHER
        os.sched_setscheduler(0, policy, os.sched_param(int(yes)))
    except (OSError, AttributeError):
        return False
    return True
