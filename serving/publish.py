"""Publishes exports to where servers watch: ``artifacts/repository/<model>/<version>/``, and writes models.config.

    python -m serving.publish

A version is the SavedModel with ``model.tflite`` beside it (lite's ``server`` variant, when it was made from this very
SavedModel) and ``published.json``. It appears by one rename, so a server never sees half of one. Files are hard links
where the file system has them. A published version goes only when its export is gone.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from export.bundle import Export, find_exports
from models.artifacts import artifacts_root, fingerprint, is_current, read_json, sweep, write_json, write_whole
from models.errors import ArtifactError, run_cli

# Where docker-compose.yml mounts the repository in the container.
DOCKER_ROOT = Path("/repository")
_FORMAT = "1"  # part of the fingerprint: raise it when the layout of a published version changes


def publish(export: Export) -> bool:
    """Publish one version; returns whether anything was out of date. Raises ArtifactError."""
    tflite = server_tflite(export)
    sources = [export.saved_model, *([tflite] if tflite else [])]
    made_from = fingerprint(sources, extra=f"{_FORMAT} {export.sha256}")
    if is_current(export.published / "published.json", made_from):
        return False
    if not (export.saved_model / "saved_model.pb").is_file():
        raise ArtifactError(f"{export.saved_model} has no saved_model.pb; run `make deploy-all` to export it again")
    with write_whole(export.published) as folder:
        shutil.copytree(export.saved_model, folder, copy_function=_link)
        if tflite:
            _link(tflite, folder / "model.tflite")
            _link(tflite.with_suffix(".json"), folder / "model.json")
        write_json(
            folder / "published.json",
            {
                "schema": 1,
                "model": export.model,
                "version": export.version,
                "source_sha256": export.sha256,
                "engine": "litert" if tflite else "tensorflow",
                "made_from": made_from,
            },
        )
    return True


def server_tflite(export: Export) -> Path | None:
    """Lite's ``server`` variant, or None when there is none or it was made from another SavedModel."""
    file = export.lite("server")
    try:
        description = read_json(file.with_suffix(".json"))
    except ArtifactError:
        return None
    current = description.get("source_sha256") == export.sha256 and not description.get("error")
    return file if current and file.is_file() else None


def _link(source: Path | str, target: Path | str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def remove_gone(root: Path) -> list[str]:
    """Remove published versions whose export is gone; returns their names."""
    exported = {(export.model, str(export.version)) for export in find_exports(root)}
    removed = []
    for folder in sorted((root / "repository").glob("*/*")):
        if folder.is_dir() and folder.name.isdigit() and (folder.parent.name, folder.name) not in exported:
            gone = folder.with_name(f".tmp-{os.getpid()}-gone-{folder.name}")
            folder.rename(gone)  # a server sees the whole version or none
            shutil.rmtree(gone)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()
            removed.append(f"{folder.parent.name} version {folder.name}")
    return removed


def published_models(root: Path) -> dict[str, list[int]]:
    """Every published model with its versions, lowest first."""
    found: dict[str, list[int]] = {}
    for path in sorted((root / "repository").glob("*/*/published.json")):
        if path.parent.name.isdigit():
            found.setdefault(path.parent.parent.name, []).append(int(path.parent.name))
    return {model: sorted(versions) for model, versions in found.items()}


def config_text(models: dict[str, list[int]], base: Path, *, labels: bool) -> str:
    """A ModelServerConfig: all versions served; of several, the newest is ``canary`` and the one before it ``stable``."""
    lines = ["model_config_list {"]
    for name, versions in models.items():
        lines += [
            "  config {",
            f'    name: "{name}"',
            f'    base_path: "{base / name}"',
            '    model_platform: "tensorflow"',
            "    model_version_policy { all {} }",
        ]
        if labels:
            chosen = {"stable": versions[-2], "canary": versions[-1]} if len(versions) > 1 else {"stable": versions[-1]}
            lines += [f'    version_labels {{ key: "{label}" value: {version} }}' for label, version in chosen.items()]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def write_configs(root: Path) -> Path:
    """``models.config`` for this machine and ``models.docker.config`` for the container; untouched when unchanged.

    The container's has no labels: tensorflow_model_server refuses them at start unless it is told
    --allow_version_labels_for_unavailable_models.
    """
    models, repository = published_models(root), root / "repository"
    if not models:
        raise ArtifactError(f"nothing is published below {repository}; run `make deploy-all` to build the exports")
    path = repository / "models.config"
    for file, text in (
        (path, config_text(models, repository, labels=True)),
        (repository / "models.docker.config", config_text(models, DOCKER_ROOT, labels=False)),
    ):
        if not file.is_file() or file.read_text() != text:
            with write_whole(file) as temporary:
                temporary.write_text(text)
    return path


def publish_all(root: Path | None = None, *, models: list[str] | None = None) -> dict[str, Any]:
    """Publish every export below ``root`` and write the configs. Returns what was done."""
    root = root or artifacts_root()
    if (root / "repository").is_dir():
        sweep(root / "repository")
    exports = find_exports(root, models=models)
    changed = [export for export in exports if publish(export)]
    removed = remove_gone(root)
    return {"changed": changed, "exports": exports, "removed": removed, "config": write_configs(root)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving.publish", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--root", type=Path, help="the artifacts folder; default: ARTIFACTS or artifacts/")
    arguments = parser.parse_args()
    chosen = [name.strip() for name in os.environ.get("MODELS", "").split(",") if name.strip()]
    done = publish_all(arguments.root.resolve() if arguments.root else None, models=chosen or None)
    for export in done["changed"]:
        engine = "LiteRT" if server_tflite(export) else "TensorFlow (there is no server.tflite of this SavedModel)"
        print(f"published {export.model} version {export.version}, runs on {engine}")
    for name in done["removed"]:
        print(f"removed {name}: its export is gone")
    print(f"{len(done['exports'])} versions, {len(done['changed'])} new: {done['config']}")


if __name__ == "__main__":
    run_cli(main)
