"""Locust's own page over the same users and questions: ``make loadtest-web``, or ``locust -f loadtest/locustfile.py``.

Its figures count from the sending of a request, so that a server that stands still is asked less: for figures to be
believed take ``make loadtest``. Each profile is a shape that can be picked; ten users stand for 100 requests per second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from locust import LoadTestShape, events

from loadtest.profiles import find_profile, profile_names
from loadtest.users import USER_RATE, EdgeUser, GrpcUser, RestUser, WebUser

if TYPE_CHECKING:
    from loadtest.plan import Stage

__all__ = ["EdgeUser", "GrpcUser", "RestUser", "WebUser"]
SPAWN_RATE = 100  # users per second, the most that Locust advises


@events.init_command_line_parser.add_listener
def add_model(parser: Any) -> None:
    parser.add_argument("--model", default="mlp", help="which model is asked")


def _shape(name: str, stages: tuple[Stage, ...]) -> type[LoadTestShape]:
    def tick(self: LoadTestShape) -> tuple[int, float] | None:
        into, before = self.get_run_time(), 0.0
        for stage in stages:
            if into < stage.seconds:
                rate = before + (stage.rate - before) * into / stage.seconds if stage.ramp else stage.rate
                return max(1, math.ceil(rate / USER_RATE)), SPAWN_RATE
            into, before = into - stage.seconds, stage.rate
        return None

    return type(name, (LoadTestShape,), {"tick": tick, "__module__": __name__})


for _name in profile_names():  # Locust finds its shapes among this module's names
    globals()[_name.capitalize()] = _shape(_name.capitalize(), find_profile(_name).stages)
