"""Publishes exports to where servers watch: ``artifacts/repository/<model>/<version>/``, and writes models.config.

    python -m serving.publish
    python -m serving.publish promote MODEL    # and status, rollback, apply: see rollout.py

A version is the SavedModel with ``model.tflite`` beside it (lite's ``server`` variant, when it was made from this very
SavedModel and is proven to answer the same: proof.py), ``litert.json`` (litert_signatures.py) and ``published.json``.
It appears by one rename, so a server never sees half of one. Files are hard links where the file system has them. A
published version goes only when its export is gone.
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.columns import columns
from deploy.ports import port
from export.bundle import Export, find_exports
from models.artifacts import artifacts_root, fingerprint, is_current, read_json, sweep, write_json, write_whole
from models.errors import ArtifactError, interruptible, run_cli
from serving import litert_signatures, rollout
from serving.models_config import DOCKER_ROOT, STABLE, check_published, current_labels, write_configs
from serving.proof import Proof, prove, prove_all

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMAT = "3"  # part of the fingerprint: raise it when the layout of a published version changes


@dataclass(frozen=True)
class Published:
    """One version as it lies in the repository."""

    export: Export
    engine: str  # of serving_default: "litert" | "tensorflow"
    proof: Proof | None  # None: there is no model.tflite of this SavedModel
    changed: bool

    def __str__(self) -> str:
        name = f"{self.export.model} version {self.export.version}"
        if self.proof is None:
            return f"published {name}, runs on TensorFlow (there is no server.tflite of this SavedModel)"
        if self.engine == "tensorflow":
            return (
                f"published {name} without model.tflite, runs on TensorFlow: LiteRT is not proven to answer the same "
                f"({self.proof.against_file}); `python -m compare --models {self.export.model}` shows where they part"
            )
        failed = "".join(f"; {which} runs on TensorFlow ({why})" for which, why in self.proof.failed.items())
        return f"published {name}, runs on LiteRT ({', '.join(self.proof.passed)} proven equal){failed}"


def publish(export: Export) -> Published:
    """Publish one version, if it is out of date. Raises ArtifactError, ModelError."""
    made = server_tflite(export)
    proof = prove(export, made) if made else None
    tflite = made if proof and not proof.against_file else None
    engine = "litert" if tflite else "tensorflow"
    sources = [export.saved_model, *([tflite] if tflite else [])]
    made_from = fingerprint(sources, extra=f"{_FORMAT} {export.sha256} {proof}")
    if is_current(export.published / "published.json", made_from):
        return Published(export, engine, proof, changed=False)
    with write_whole(export.published) as folder:
        shutil.copytree(export.saved_model, folder, copy_function=_link)
        if tflite and proof:
            _link(tflite, folder / "model.tflite")
            _link(tflite.with_suffix(".json"), folder / "model.json")
            litert_signatures.write(folder, export, proof.passed)
        write_json(
            folder / "published.json",
            {
                "schema": 1,
                "model": export.model,
                "version": export.version,
                "source_sha256": export.sha256,
                "engine": engine,
                "proof": {name: asdict(one) for name, one in proof.signatures.items()} if proof else {},
                "made_from": made_from,
            },
        )
    return Published(export, engine, proof, changed=True)


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


def publish_all(root: Path | None = None, *, models: list[str] | None = None) -> dict[str, Any]:
    """Publish every export below ``root`` and write the configs. Returns what was done."""
    root = root or artifacts_root()
    if (root / "repository").is_dir():
        sweep(root / "repository")
    exports = find_exports(root, models=models)
    for export in exports:
        if not (export.saved_model / "saved_model.pb").is_file():
            raise ArtifactError(f"{export.saved_model} has no saved_model.pb; run `make deploy-all` to export it again")
    prove_all([(export, made) for export in exports if (made := server_tflite(export))])
    versions = [publish(export) for export in exports]
    removed = remove_gone(root)
    return {
        "changed": [version for version in versions if version.changed],
        "versions": versions,
        "removed": removed,
        "config": write_configs(root),
    }


def main(argv: Sequence[str] | None = None) -> None:
    options = _options(argv)
    root = (options.root or artifacts_root()).resolve()
    if options.command is None:
        _publish(root)
        return
    server = rollout.Server(
        options.grpc_address or f"127.0.0.1:{port('GRPC_PORT')}", DOCKER_ROOT if options.docker else root / "repository"
    )
    check_published(root)
    if options.command == "status":
        print(columns(rollout.describe(root, options.model, server)))
        return
    if options.command == "apply":
        labels = current_labels(root)
        needed = {model: chosen.values() for model, chosen in labels.items()}
        told = rollout.apply(root, labels, server, needed, wait=options.wait)
        print(f"labels of {', '.join(labels)} {_where(told, server)}")
        return
    if options.command == "promote":
        move = rollout.promote(root, options.model, server, to=options.to, wait=options.wait)
    else:
        move = rollout.rollback(root, options.model, server, wait=options.wait)
    what = (
        f"stays at version {move.after}" if move.before == move.after else f"moved from {move.before} to {move.after}"
    )
    print(f"{move.model}: {STABLE} {what} {_where(move.told, server)}")


def _publish(root: Path) -> None:
    chosen = [name.strip() for name in os.environ.get("MODELS", "").split(",") if name.strip()]
    done = publish_all(root, models=chosen or None)
    for version in done["changed"]:
        print(version)
    for name in done["removed"]:
        print(f"removed {name}: its export is gone")
    print(f"{len(done['versions'])} versions, {len(done['changed'])} new: {done['config']}")


def _where(told: bool, server: rollout.Server) -> str:
    if told:
        return f"at {server.address} and in models.config"
    return f"in models.config only: no server answers at {server.address}, the next one that starts takes it from there"


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)  # before and after a command
    common.add_argument("--root", type=Path, help="the artifacts folder; default: ARTIFACTS or artifacts/")
    common.add_argument("--grpc-address", help="host:port of the server; default: this deployment's")
    common.add_argument(
        "--docker",
        action="store_true",
        help=f"the server is docker-compose.yml's container, with the repository at {DOCKER_ROOT}; or env DEPLOY=docker",
    )
    common.add_argument(
        "--wait", type=float, help=f"seconds that a version may take to load; default {rollout.LOAD_LIMIT_S:g}"
    )
    description = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m serving.publish", description=description, parents=[common])
    commands = parser.add_subparsers(dest="command", title="without a command, publishes; with one, moves labels")
    status = commands.add_parser(
        "status", parents=[common], help="versions, engines, states and labels, published and on the server"
    )
    status.add_argument("model", nargs="?")
    promote = commands.add_parser("promote", parents=[common], help="stable moves to canary's version, or to any other")
    promote.add_argument("model")
    promote.add_argument("--to", type=int, metavar="VERSION")
    rollback = commands.add_parser("rollback", parents=[common], help="stable moves back to where it was before")
    rollback.add_argument("model")
    commands.add_parser(
        "apply", parents=[common], help="tell a server that does not watch models.config what is published"
    )
    docker = os.environ.get("DEPLOY") == "docker"
    unset = argparse.Namespace(root=None, grpc_address=None, docker=docker, wait=rollout.LOAD_LIMIT_S)
    options = parser.parse_args(argv, namespace=unset)
    if not 0 <= options.wait < float("inf"):
        parser.error(f"--wait={options.wait:g} is no time; give a number of seconds")
    return options


if __name__ == "__main__":
    interruptible()
    run_cli(main)
