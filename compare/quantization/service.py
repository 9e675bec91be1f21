"""What the edge service's HTTP and JSON cost: its CPU time per request, less that of the interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compare.guard import Guard
from compare.own_services import own_services
from compare.quantization.lite_bench import XNNPACK, Setting
from models.artifacts import artifacts_root
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from compare.bench import Block
    from export.bundle import Export

TARGET, VARIANT = "edge-http", "int8"  # the service and the files that the deployment has it run
BARE = Setting("invoke", XNNPACK, 1)
TIMEOUT = 120.0


def service_costs(
    exports: Sequence[Export], lite: Guard, *, rounds: int, requests: int, tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """By model: CPU time of the service's processes per kept-alive request, of ``invoke()`` in the same run, and what is left.

    The service is the real one, on a free port, over the artefacts of this run.
    """
    if not exports:
        return {}
    with own_services(artifacts_root(), serving=False) as unwell, Guard() as asking:
        if reason := unwell.get("edge"):
            return {export.model: _cost([], [], reason) for export in exports}
        found = {}
        for export in exports:
            found[export.model] = _of_one(export, asking, lite, rounds, requests)
            tell(".")
        return found


def _of_one(export: Export, asking: Guard, lite: Guard, rounds: int, requests: int) -> dict[str, Any]:
    asked: list[Block] = []
    invoked: list[Block] = []
    try:
        asking.call("first", TARGET, export, "serving_default", timeout=TIMEOUT)
        asking.call("steady", TARGET, export, "serving_default", requests, 0, timeout=TIMEOUT)  # warm-up
        for turn in range(rounds):
            asked.append(asking.call("steady", TARGET, export, "serving_default", requests, turn, timeout=TIMEOUT))
            invoked.append(lite.call("steady", export, VARIANT, BARE, 0.02, timeout=TIMEOUT))
    except TargetError as error:
        return _cost([], [], str(error))
    if any(block.cpu_seconds is None for block in asked):
        return _cost([], [], "the CPU time of the service's process cannot be read here")
    return _cost(asked, invoked, None)


def _cost(asked: Sequence[Block], invoked: Sequence[Block], error: str | None) -> dict[str, Any]:
    request, invoke = _cpu_us(asked), _cpu_us(invoked)
    return {
        "request_cpu_us": request,
        "invoke_cpu_us": invoke,
        "own_cpu_us": request - invoke if request is not None and invoke is not None else None,
        "n": sum(len(block.seconds) for block in asked),
        "error": error,
    }


def _cpu_us(blocks: Sequence[Block]) -> float | None:
    calls = sum(len(block.seconds) for block in blocks)
    return sum(block.cpu_seconds or 0.0 for block in blocks) / calls * 1e6 if calls else None
