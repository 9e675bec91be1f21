"""The services of ``services.toml``, with their ports filled in, and the fingerprint of what each runs."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.environments import REPOSITORY, STAMP
from deploy.ports import port
from models.artifacts import artifacts_root, reports_root, sha256_file
from models.errors import DeployError

# Made by others than the service's own code; a change there is no reason to restart it.
NOT_CODE = {"node_modules", "dist", "demo", "converter", "__pycache__", "tests"}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One table of ``services.toml``, every placeholder but {model} filled in. ``ports`` maps a port's name to its number."""

    name: str
    about: str
    command: tuple[str, ...]
    ports: dict[str, int]
    health: str
    within_s: float
    healthy: str = ""
    environment: str = ""
    restart_on: tuple[str, ...] = ()
    reloads: tuple[str, ...] = ()
    reload: str = ""
    addresses: tuple[str, ...] = ()
    try_: str = ""
    on_demand: bool = False
    root: Path = REPOSITORY

    def health_addresses(self) -> list[str]:
        return _each_model(self.health)

    def example(self) -> str:
        models = published_models() or ["MODEL"]
        return self.try_.format(model=models[0])

    def fingerprint(self) -> str:
        """sha256 over the command, the code, the environment's stamp: what a restart would change."""
        digest = hashlib.sha256("\0".join(self.command).encode())
        if self.environment:
            stamp = self.root / self.environment / ".venv" / STAMP
            digest.update(stamp.read_bytes() if stamp.exists() else b"")
        for name in self.restart_on:
            for file in _files(self.root / name):
                digest.update(f"\0{file}\0{sha256_file(file)}".encode())
        return digest.hexdigest()

    def loaded(self) -> dict[str, str]:
        """The files that the service watches by itself, with their sha256."""
        paths = [self.root / path for name in self.reloads for path in _each_model(name)]
        return {str(file): sha256_file(file) for path in paths for file in _files(path)}


def load_services(path: Path | None = None, *, on_demand: bool = False) -> list[Service]:
    """The services of ``path`` (default: services.toml here); with ``on_demand``, those too that are started by name.

    Raises DeployError for a port that is none.
    """
    tables: dict[str, dict[str, Any]] = tomllib.loads((path or Path(__file__).with_name("services.toml")).read_text())
    return [_service(name, table) for name, table in tables.items() if on_demand or not table.get("on_demand")]


def _service(name: str, table: dict[str, Any]) -> Service:
    text = repr(table)
    values: dict[str, object] = {p: port(p) for p in sorted(set(re.findall(r"\b[A-Z]+_PORT\b", text)))}
    ports = {p: int(str(values[p])) for p in table.pop("ports")}
    values |= {"artifacts": artifacts_root(), "reports": reports_root(), "model": "{model}"}
    filled = {key.replace("try", "try_"): _fill(value, values) for key, value in table.items()}
    return Service(name=name, ports=ports, **filled)


def _fill(value: Any, values: dict[str, object]) -> Any:
    if isinstance(value, list):
        return tuple(_fill(item, values) for item in value)
    return value.format(**values) if isinstance(value, str) else value


def published_models() -> list[str]:
    """The models that the repository holds a version of, by name."""
    folder = artifacts_root() / "repository"
    return sorted({path.parent.name for path in folder.glob("*/[0-9]*") if path.name.isdigit()})


def _each_model(text: str) -> list[str]:
    return [text.format(model=model) for model in published_models()] if "{model}" in text else [text]


def check_distinct(services: list[Service]) -> None:
    """Raises DeployError when two services were given the same port."""
    names: dict[int, str] = {}
    for service in services:
        for name, number in service.ports.items():
            if number in names:
                raise DeployError(f"{names[number]} and {name} are both {number}; set one of them to another port")
            names[number] = name


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.exists() else []
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in NOT_CODE)
        found += [Path(folder) / n for n in sorted(names) if not n.startswith(".") and not n.endswith((".pyc", ".md"))]
    return found
