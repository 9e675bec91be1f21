"""A deployment of the tests' own to put load on, and Locust's processes, once: both take seconds to start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from compare.own_services import own_services
from loadtest.generator import Generator
from models.artifacts import artifacts_root
from web.local import running_app

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def services() -> Iterator[None]:
    """Model server, edge service and web app; meanwhile their ports are in the environment."""
    root = artifacts_root()
    with own_services(root) as unwell:
        assert not unwell, unwell
        rest, edge = (f"http://127.0.0.1:{os.environ[name]}" for name in ("REST_PORT", "EDGE_PORT"))
        with running_app(rest=rest, edge=edge, artifacts=root) as address:
            os.environ["WEB_PORT"] = address.rpartition(":")[2]
            yield


@pytest.fixture(scope="package")
def generator(services: None) -> Iterator[Generator]:
    with Generator(workers=2) as running:
        yield running
