"""What the page can show: the models below ``artifacts/web``, read afresh for every request. Standard library only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path


def list_models(folder: Path) -> list[dict[str, Any]]:
    """The newest version of each model: where its graph model and its samples are, or why there is no graph model.

    The addresses carry the content's hash, so that a browser may keep what is behind them for ever.
    """
    newest: dict[str, Path] = {}
    for samples in folder.glob("*/*/samples.json"):
        version = samples.parent
        if version.name.isdigit() and not version.parent.name.startswith("."):
            other = newest.get(version.parent.name)
            if other is None or int(other.name) < int(version.name):
                newest[version.parent.name] = version
    return [_entry(newest[name]) for name in sorted(newest)]


def _entry(version: Path) -> dict[str, Any]:
    address = f"/models/{quote(version.parent.name)}/{version.name}"
    graph: dict[str, Any] | None = None
    error: str | None = "it was not converted to TF.js; run `make deploy-all`"
    description = _read(version / "float32.json")
    if description is not None:
        error = description.get("error")
        if error is None and (version / "float32" / "model.json").is_file():
            graph = {
                "url": f"{address}/float32/model.json?h={description['sha256'][:16]}",
                "bytes": description["bytes"],
            }
    samples = _read(version / "samples.json") or {}
    return {
        "model": version.parent.name,
        "version": int(version.name),
        "graph": graph,
        "error": error,
        "samples": f"{address}/samples.json?h={str(samples.get('made_from', ''))[:16]}",
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
