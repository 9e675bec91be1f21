"""The profiles of ``profiles.toml`` as objects."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.plan import PROFILES, Plan, Stage
from models.errors import TargetError

_NOT_PROFILES = ("bounds", "checks")


@dataclass(frozen=True)
class Profile:
    """``plans`` makes what a cell is asked: the open loop, then the closed one."""

    name: str
    about: str
    arrival: str
    stages: tuple[Stage, ...]
    users: int
    closed_seconds: float

    @property
    def seconds(self) -> float:
        """Of one cell."""
        return sum(stage.seconds for stage in self.stages) + self.closed_seconds

    def plans(self, target: str, model: str, *, seed: int = 0) -> tuple[Plan, Plan]:
        return (
            Plan(target=target, model=model, loop="open", stages=self.stages, arrival=self.arrival, seed=seed),
            Plan(target=target, model=model, loop="closed", users=self.users, seconds=self.closed_seconds, seed=seed),
        )


def profile_names() -> list[str]:
    return [name for name in PROFILES if name not in _NOT_PROFILES]


def find_profile(name: str) -> Profile:
    """Raises TargetError for a name that is none."""
    if name not in profile_names():
        raise TargetError(f"no load profile is named {name!r}; there are: {', '.join(profile_names())}")
    entry = PROFILES[name]
    return Profile(
        name=name,
        about=entry["about"],
        arrival=entry["arrival"],
        stages=tuple(Stage(**stage) for stage in entry["stages"]),
        users=entry["closed"]["users"],
        closed_seconds=entry["closed"]["seconds"],
    )
