"""What the page can show: the models below ``artifacts``, read afresh for every request. Standard library only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path


VARIANT = "float32"


def list_models(artifacts: Path) -> list[dict[str, Any]]:
    """Each model with its newest version, and all ``versions``, the newest first.

    Of a version: where its samples are and its files for the page's runtimes, or why there is none. The addresses carry
    the content's hash, so that a browser may keep what is behind them for ever.
    """
    found: dict[str, list[Path]] = {}
    for samples in (artifacts / "web").glob("*/*/samples.json"):
        version = samples.parent
        if version.name.isdigit() and not version.parent.name.startswith("."):
            found.setdefault(version.parent.name, []).append(version)
    entries = []
    for model, folders in sorted(found.items()):
        versions = [_describe(artifacts, v) for v in sorted(folders, key=lambda v: int(v.name), reverse=True)]
        entries.append({"model": model, **versions[0], "versions": versions})
    return entries


def _describe(artifacts: Path, version: Path) -> dict[str, Any]:
    place = f"{version.parent.name}/{version.name}"
    samples = _read(version / "samples.json") or {}
    return {
        "version": int(version.name),
        "files": {
            "graph": _file(artifacts, f"web/{place}/{VARIANT}", f"web/{place}/{VARIANT}/model.json", "TF.js"),
            "lite": _file(artifacts, f"lite/{place}/{VARIANT}", f"lite/{place}/{VARIANT}.tflite", "TFLite"),
        },
        "samples": f"/models/web/{quote(place)}/samples.json?h={str(samples.get('made_from', ''))[:16]}",
    }


def _file(artifacts: Path, described: str, file: str, format: str) -> dict[str, Any]:
    """``{"url", "bytes", "error"}``: either there is a file, or there is a reason."""
    description = _read(artifacts / f"{described}.json") or {}
    error = description.get("error")
    if not error and not (description.get("sha256") and (artifacts / file).is_file()):
        error = f"it was not converted to {format}; run `make deploy-all`"
    if error:
        return {"url": None, "bytes": None, "error": error}
    return {
        "url": f"/models/{quote(file)}?h={description['sha256'][:16]}",
        "bytes": description["bytes"],
        "error": None,
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
