"""Moves labels on a running server and in ``models.config``: promote, roll back, or only say what is where.

The server is told by HandleReloadConfigRequest, so the real TensorFlow Serving is driven by the same code. The file is
written when the server has accepted, so that a restart serves the same; where no server answers, only the file is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.artifacts import read_json
from models.errors import DeployError, ModelError
from serving.client.errors import ClientError, Refused, Unreachable
from serving.client.grpc import GrpcClient
from serving.models_config import (
    CANARY,
    PREVIOUS,
    STABLE,
    config_path,
    config_text,
    current_labels,
    published_models,
    write_configs,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from serving.models_config import Labels

LOAD_LIMIT_S = 60.0  # how long a version that was just published may take to become available
LOOK_S = 0.1
_UNSEEN = {"state": "not there yet", "error_code": "OK", "error_message": ""}


@dataclass(frozen=True)
class Server:
    """A server of the published repository: gRPC's address, and where the repository lies in its own file system."""

    address: str
    base: Path


@dataclass(frozen=True)
class Move:
    """``stable`` of a model before and after. ``told``: the server has taken it over; False: none answers."""

    model: str
    before: int
    after: int
    told: bool


def promote(root: Path, model: str, server: Server, *, to: int | None = None, wait: float = LOAD_LIMIT_S) -> Move:
    """``stable`` moves to ``to``, by default where ``canary`` points. Raises ModelError, DeployError, ArtifactError."""
    labels = _labels_of(root, model)
    before, after = labels[model][STABLE], labels[model][CANARY] if to is None else to
    versions = published_models(root)[model]
    if after not in versions:
        known = ", ".join(map(str, versions))
        raise ModelError(
            f"version {after} of {model} is not published, there are {known}; export it and `make publish`"
        )
    if before != after:
        labels[model] |= {STABLE: after, PREVIOUS: before}
    return Move(model, before, after, apply(root, labels, server, {model: [after]}, wait=wait))


def rollback(root: Path, model: str, server: Server, *, wait: float = LOAD_LIMIT_S) -> Move:
    """``stable`` moves back to where it was before the last promotion. Raises ModelError, DeployError, ArtifactError."""
    labels = _labels_of(root, model)
    before = labels[model][STABLE]
    if PREVIOUS not in labels[model]:
        raise ModelError(
            f"{model} has nothing to roll back to: {STABLE} is at version {before}, and no promotion of it can be undone; "
            f"`python -m serving.publish promote {model} --to VERSION` moves {STABLE} to any version"
        )
    after = labels[model][STABLE] = labels[model].pop(PREVIOUS)
    return Move(model, before, after, apply(root, labels, server, {model: [after]}, wait=wait))


def apply(
    root: Path,
    labels: Mapping[str, Labels],
    server: Server,
    needed: Mapping[str, Collection[int]],
    *,
    wait: float = LOAD_LIMIT_S,
) -> bool:
    """Wait until the labelled versions are available, tell the server, write the file. Returns whether a server was told.

    ``needed`` versions must become so, or DeployError is raised and the file stays as it is. Others that cannot be loaded
    only lose their labels on the server, which would refuse the whole config because of them.
    """
    try:
        with GrpcClient(server.address, timeout=wait) as client:
            held = {}
            for model, chosen in labels.items():
                must = set(needed.get(model, ()))
                available = _settled(client, server, model, set(chosen.values()) | must, must, wait)
                held[model] = {label: version for label, version in chosen.items() if version in available}
            client.reload_config(config_text(published_models(root), server.base, held))
    except Unreachable:
        write_configs(root, labels)
        return False
    except ClientError as error:
        raise DeployError(
            f"the server at {server.address} did not take the labels ({error}); {config_path(root)} stays as it is: "
            "look at `python -m serving.publish status`"
        ) from None
    write_configs(root, labels)
    return True


def describe(root: Path, model: str | None, server: Server) -> list[tuple[str, ...]]:
    """A table: model, version, engine, the file's labels, the server's state, the server's labels."""
    labels = current_labels(root) if model is None else {model: _labels_of(root, model)[model]}
    rows: list[tuple[str, ...]] = [("model", "version", "engine", "labels", "state", "labels on the server")]
    with GrpcClient(server.address, timeout=5) as client:
        for name, chosen in labels.items():
            states, pointing = _on_server(client, name, chosen)
            for version in reversed(published_models(root)[name]):
                rows.append(
                    (
                        name,
                        str(version),
                        read_json(root / "repository" / name / str(version) / "published.json")["engine"],
                        ", ".join(label for label, at in chosen.items() if at == version),
                        states if isinstance(states, str) else states.get(version, "not known"),
                        ", ".join(label for label, at in pointing.items() if at == version),
                    )
                )
    return rows


def _on_server(client: GrpcClient, model: str, labels: Labels) -> tuple[dict[int, str] | str, Labels]:
    """The state of each version, or why there is none, and where the labels point there."""
    try:
        return _states(client, model), dict(_pointing(client, model, labels))
    except Unreachable:
        return "no server", {}
    except ClientError as error:
        return error.code, {}


def _states(client: GrpcClient, model: str) -> dict[int, str]:
    try:
        return {row["version"]: row["state"] for row in client.status(model)}
    except Refused:
        return {}  # a model that the server does not have


def _pointing(client: GrpcClient, model: str, labels: Labels) -> Iterator[tuple[str, int]]:
    for label in labels:
        try:
            yield label, int(client.metadata(model, label=label)["model_spec"]["version"])
        except Refused:  # the server does not know the label
            continue


def _labels_of(root: Path, model: str) -> dict[str, Labels]:
    """All models' labels. Raises ModelError when ``model`` is none of them."""
    labels = current_labels(root)
    if model not in labels:
        known = ", ".join(labels) or "none: run `make publish`"
        raise ModelError(f"no model named {model!r} is published; there are: {known}")
    return labels


def _settled(
    client: GrpcClient, server: Server, model: str, versions: set[int], needed: set[int], limit: float
) -> set[int]:
    """The available ones of ``versions``, when no other is still on its way or the time is over.

    TF Serving gives a label only to a version that is loaded. Raises DeployError when one that is needed is not.
    """
    deadline = time.monotonic() + limit
    while True:
        try:
            rows = {row["version"]: row for row in client.status(model)}
        except Refused as error:
            if not needed:
                return set()  # a model that this server does not have
            raise DeployError(
                f"the server at {server.address} does not serve {model} ({error.message}); "
                "is it this deployment's? `make status` tells, `make deploy-all` starts it"
            ) from None
        found = {version: rows.get(version, _UNSEEN) for version in versions}
        available = {version for version, row in found.items() if row["state"] == "AVAILABLE"}
        failed = {version for version, row in found.items() if row["error_code"] != "OK" and row["state"] == "END"}
        for version in sorted(needed & failed):
            raise DeployError(
                f"version {version} of {model} cannot be loaded: {found[version]['error_message']}; "
                "export it again, or take it away and run `make publish`"
            )
        if versions == available | failed:
            return available
        if time.monotonic() > deadline:
            for version in sorted(needed - available):
                raise DeployError(
                    f"version {version} of {model} is {found[version]['state']} after {limit:g} s at {server.address}; "
                    "look at the server's log, or allow more with --wait"
                )
            return available
        time.sleep(LOOK_S)
