"""The services' ports: ``ports.toml``, overridden by the environment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from models.errors import DeployError


def port(name: str) -> int:
    """The port called ``name`` ("GRPC_PORT", …). Raises DeployError when the environment's value is no port."""
    default = tomllib.loads(Path(__file__).with_name("ports.toml").read_text())[name]
    value = os.environ.get(name) or default
    try:
        number = int(value)
    except ValueError:
        number = 0
    if not 0 < number < 65536:
        raise DeployError(f"{name}={value} is no port; use a number from 1 to 65535, for example {name}={default}")
    return number
