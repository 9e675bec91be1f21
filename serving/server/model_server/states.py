"""What is known of a model's versions: the state of each, and the snapshot of those that requests are answered from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from model_server.errors import Code

if TYPE_CHECKING:
    from model_server.servable import Servable


class State(IntEnum):
    """tensorflow.serving.ModelVersionStatus.State"""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class VersionStatus:
    state: State = State.START
    code: Code = Code.OK
    message: str = ""
    attempts: int = 0
    queued: bool = False  # a loader has it or will have it
    retry_at: float = 0.0  # time.monotonic() of the next attempt to load
    missed: int = 0  # looks in a row that did not find the folder
    gone: bool = False  # no longer aspired to; should it come back, it starts anew
    path: Path = Path()  # the folder that was last tried, and its device and inode
    identity: tuple[int, int] = (0, 0)

    @property
    def tried(self) -> bool:
        """Whether loading it came to some end, be it the first of several attempts."""
        return self.state >= State.AVAILABLE or self.attempts > 0


@dataclass(frozen=True)
class Available:
    """What requests see of one model."""

    versions: dict[int, Servable] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)

    @property
    def latest(self) -> int | None:
        return max(self.versions, default=None)
