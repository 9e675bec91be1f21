"""``reports/lite.json``: composed and checked against its schema, ``lite.schema.json``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from compare import environment
from compare.quantization.bars import bars

if TYPE_CHECKING:
    from collections.abc import Sequence

# What decides how fast int8 is: instructions that multiply bytes and add up (VNNI, AMX) or that only widen them (AVX2).
SIMD = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")


@cache
def schema() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("lite.schema.json").read_text())


def compose(
    models: Sequence[dict[str, Any]], *, quick: bool = False, created: datetime | None = None
) -> dict[str, Any]:
    """The report as data. Raises jsonschema.ValidationError when it is not in the form that the schema states."""
    created = created or datetime.now(UTC)
    document = {
        "schema": 1,
        "created": created.isoformat(timespec="seconds"),
        "quick": quick,
        "host": {**environment.host(), "simd": simd()},
        "versions": environment.versions(),
        "models": list(models),
        "bars": bars(models),
    }
    validate(document)
    return document


def validate(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema()).validate(document)


def simd() -> list[str]:
    """Of the processor's instruction sets those that int8 and float32 arithmetic depend on; empty where not told."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return []
    lines = (line for line in info.read_text().splitlines() if line.lower().startswith(("flags", "features")))
    flags = set(next(lines, "").split())
    return [name for name in SIMD if name in flags]
