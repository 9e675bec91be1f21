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
    return Move(model, before, after, apply(root, labels, server, [model], wait=wait))


def rollback(root: Path, model: str, server: Server, *, wait: float = LOAD_LIMIT_S) -> Move:
    """``stable`` moves back to where it was before the last promotion. Raises ModelError, DeployError, ArtifactError."""
    labels = _labels_of(root, model)
    before = labels[model][STABLE]
    if PREVIOUS not in labels[model]:
        raise ModelError(
            f"{model} has nothing to roll back to: {STABLE} is at version {before}, and no promotion of it can be undone; "
            f"`python -m serving.publish promote {model} --to VERSION` moves {STABLE} to any version"
        )
    labels[model][STABLE] = labels[model].pop(PREVIOUS)
    return Move(model, before, labels[model][STABLE], apply(root, labels, server, [model], wait=wait))


def apply(
    root: Path, labels: Mapping[str, Labels], server: Server, models: Collection[str], *, wait: float = LOAD_LIMIT_S
) -> bool:
    """Wait until the labelled versions of ``models`` are available, tell the server, write the file.

    Other models keep the labels that can be kept: a server refuses all of a config when one label points to a version
    that is not loaded. Returns whether a server was told. Raises DeployError when a version cannot be loaded or the
    server refuses; then the file stays as it is.
    """
    try:
        with GrpcClient(server.address, timeout=wait) as client:
            loaded = {}
            for model, chosen in labels.items():
                if model in models:
                    _wait_available(client, server, model, set(chosen.values()), wait)
                    loaded[model] = chosen
                else:
                    states = _states(client, model)
                    loaded[model] = {label: at for label, at in chosen.items() if states.get(at) == "AVAILABLE"}
            client.reload_config(config_text(published_models(root), server.base, loaded))
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


def _wait_available(client: GrpcClient, server: Server, model: str, versions: set[int], limit: float) -> None:
    """TF Serving gives a label only to a version that is loaded. Raises DeployError when one does not get there."""
    deadline = time.monotonic() + limit
    while True:
        try:
            rows = {row["version"]: row for row in client.status(model)}
        except Refused as error:
            raise DeployError(
                f"the server at {server.address} does not serve {model} ({error.message}); "
                "is it this deployment's? `make status` tells, `make deploy-all` starts it"
            ) from None
        missing = [version for version in sorted(versions) if rows.get(version, _UNSEEN)["state"] != "AVAILABLE"]
        if not missing:
            return
        row, version = rows.get(missing[0], _UNSEEN), missing[0]
        if row["state"] == "END" and row["error_code"] != "OK":
            raise DeployError(
                f"version {version} of {model} cannot be loaded: {row['error_message']}; "
                "export it again, or take it away and run `make publish`"
            )
        if time.monotonic() > deadline:
            raise DeployError(
                f"version {version} of {model} is {row['state']} after {limit:g} s at {server.address}; "
                "look at the server's log, or allow more with --wait"
            )
        time.sleep(LOOK_S)
