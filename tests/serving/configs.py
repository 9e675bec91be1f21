"""Texts of model_config_lists for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def model(
    name: str,
    base_path: Path | str,
    policy: str = "",
    *,
    labels: Mapping[str, int] | None = None,
    platform: str = "tensorflow",
) -> str:
    """One ``config { … }``; ``policy`` is for example ``all {}``."""
    lines = [f'name: "{name}" base_path: "{base_path}"']
    if platform:
        lines.append(f'model_platform: "{platform}"')
    if policy:
        lines.append(f"model_version_policy {{ {policy} }}")
    lines += [f'version_labels {{ key: "{label}" value: {version} }}' for label, version in (labels or {}).items()]
    return f"config {{ {' '.join(lines)} }}"


def models(*configs: str) -> str:
    return f"model_config_list {{ {' '.join(configs)} }}"
