"""Target: something that answers ``predict``. Nothing else in compare/ knows a runtime.

A new target is one file in ``compare/targets/`` that defines ``TARGETS``, a list of Target objects. Callers send and
get raw units on every target; what a runtime needs inside (normalised units, quantized tensors, one row at a time) is the target's own affair.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from models.errors import TargetError

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from export.bundle import Export

    Tensors = dict[str, NDArray]


class Session(ABC):
    """One loaded model; a context manager. ``first_ms`` is measured around ``open`` and the first ``predict``."""

    @abstractmethod
    def predict(self, inputs: Tensors) -> Tensors:
        """Answer N rows: ``{name: [N, …]}`` in the signature's dtypes and raw units → ``{name: [N, …]}``.

        A static target loops over the rows here. Raises TargetError when the runtime refuses.
        """

    def latencies(self, inputs: Tensors, calls: int) -> NDArray:
        """Seconds of ``calls`` single requests, one at a time, float64 [calls]. A page measures inside itself."""
        seconds = np.empty(calls)
        for i in range(calls):
            start = time.perf_counter()
            self.predict(inputs)
            seconds[i] = time.perf_counter() - start
        return seconds

    def facts(self) -> dict[str, object]:
        """artifact_bytes, artifact_sha256, rss_bytes, runtime_version, threads, accelerator; None where unknown.

        A server adds ``pid``, so that its CPU time can be read.
        """
        return {}

    def close(self) -> None:  # noqa: B027 (an optional hook)
        """Release what ``open`` took; called once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Target(ABC):
    """A runtime: a browser, a server connection, an interpreter library. A context manager around its sessions."""

    name: str  # "keras", "serving-grpc", "lite-int8", "edge-http", "tfjs-wasm", …
    variant: str = ""  # the artefact's variant: "float32", "int8", …
    precision: Literal["float32", "float16", "dynamic", "int8", "weight-only"] = "float32"  # chooses the tolerance
    batch: Literal["any", "static"] = "any"  # static: predict loops over rows; the row is marked "looped"
    isolation: Literal["process", "page", "shared"] = "process"  # how a cold start is measured

    def unavailable(self) -> str | None:
        """Why this runtime cannot be used here at all (no browser, server not running) with the remedy, or None."""
        return None

    def unsupported(self, export: Export, signature: str) -> str | None:
        """Why this runtime cannot answer that signature of that model (a converter's own reason included), or None."""
        return None

    def known_fault(self, export: Export) -> str | None:
        """What this runtime is known to answer wrongly: such a row is told as it is and fails nothing. None: nothing."""
        return None

    def prepare(self) -> None:  # noqa: B027 (an optional hook)
        """Load the runtime itself (import a library, start a browser), so that ``first_ms`` holds the model alone."""

    @abstractmethod
    def open(self, export: Export, signature: str = "serving_default") -> Session:
        """Load the model. Raises TargetError (or ArtifactError when the artefact is missing), one sentence with a remedy."""

    def cold_start(self, export: Export, inputs: Tensors) -> float | None:
        """Seconds from nothing (process start, page load, server start) to the first answer, or None if it cannot be measured.

        The default starts a Python process of its own that opens this target and answers ``inputs`` once.
        """
        from compare.cold import in_new_process

        return in_new_process(self.name, export, inputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027 (an optional hook)
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what ``open`` shared between sessions (a browser, a connection)."""


def all_targets() -> list[Target]:
    """Every target of ``compare/targets/``, in the order of the files' names."""
    import compare.targets

    found: list[Target] = []
    for module in sorted(pkgutil.iter_modules(compare.targets.__path__), key=lambda m: m.name):
        found += importlib.import_module(f"compare.targets.{module.name}").TARGETS
    return found


def find_target(name: str) -> Target:
    """The target called ``name``. Raises TargetError that names those there are."""
    targets = {target.name: target for target in all_targets()}
    if name not in targets:
        raise TargetError(f"no target named {name!r}; there are: {', '.join(targets)}")
    return targets[name]
