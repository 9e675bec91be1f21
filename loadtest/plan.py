"""What one cell of a load test asks for: a target, a model, and how requests follow each other."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.services import find_service
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROFILES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("profiles.toml").read_text())
BOUNDS, CHECKED = PROFILES["bounds"], PROFILES["checks"]["share"]
MOST_REQUESTS = 1e7  # 40 bytes each


@dataclass(frozen=True, kw_only=True)
class Stage:
    """``rate`` in requests per second; with ``ramp`` it is reached linearly from the stage before (the first: from 0)."""

    seconds: float
    rate: float
    ramp: bool = False

    def requests(self, before: float) -> float:
        """How many are due in it, when the rate was ``before``."""
        return self.seconds * ((before + self.rate) / 2 if self.ramp else self.rate)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One cell. ``loop`` "open" takes ``stages`` and ``arrival``, "closed" takes ``users`` and ``seconds``.

    Raises TargetError for a target that is none, and for a load that cannot be.
    """

    target: str
    model: str
    loop: str
    stages: tuple[Stage, ...] = ()
    arrival: str = "poisson"  # or "constant"
    users: int = 0
    seconds: float = 0.0
    address: str | None = None  # host:port; None: the deployment's
    label: str | None = None  # the model server's name for a version; None: the newest
    seed: int = 0
    check: float = CHECKED  # share of the answers that is compared with the evidence; every status is looked at
    late_ms: float = BOUNDS["late_ms"]  # a request that leaves later than this after it was due counts as late
    late_share: float = BOUNDS["late_share"]  # more late requests than this share of all, and the schedule was not kept
    cpu_share: float = BOUNDS["cpu_share"]  # of one core, in any second; of all cores but one, for all workers
    keep_samples: bool = False  # raw latencies in the outcome, to hold the histograms against

    def __post_init__(self) -> None:
        find_service(self.target)
        if self.loop == "open":
            if not self.stages or self.arrival not in ("poisson", "constant"):
                raise TargetError(
                    f"an open loop needs stages and arrival 'poisson' or 'constant', not {self.arrival!r} with {len(self.stages)} stages"
                )
            if any(not (stage.seconds > 0 and 0 <= stage.rate < float("inf")) for stage in self.stages):
                raise TargetError("a stage lasts more than 0 s and has a rate of 0 or more requests per second")
            if self.requests > MOST_REQUESTS:
                raise TargetError(
                    f"{self.requests:.3g} requests are more than the generator keeps in memory ({MOST_REQUESTS:.0g}); "
                    "lower the rate or the time"
                )
        elif self.loop == "closed":
            if self.users < 1 or not self.seconds > 0:
                raise TargetError(
                    f"a closed loop needs users and seconds, not {self.users} users for {self.seconds:g} s"
                )
        else:
            raise TargetError(f"a loop is 'open' or 'closed', not {self.loop!r}")

    @property
    def duration(self) -> float:
        """Seconds of the schedule."""
        return sum(stage.seconds for stage in self.stages) if self.loop == "open" else self.seconds

    @property
    def requests(self) -> float:
        """How many an open loop sends."""
        return sum(stage.requests(before) for stage, before in with_rate_before(self.stages))

    @property
    def rate(self) -> float | None:
        """Requests per second that are asked for, over the whole schedule; None in a closed loop."""
        return self.requests / self.duration if self.loop == "open" else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        return cls(**{**data, "stages": tuple(Stage(**stage) for stage in data["stages"])})


def with_rate_before(stages: Sequence[Stage]) -> list[tuple[Stage, float]]:
    """Each stage, and the rate of the one before it; the first begins at 0."""
    return list(zip(stages, [0.0, *(stage.rate for stage in stages)], strict=False))
