"""A deployment of the tests' own to put load on, and Locust's processes, once for a file: both take seconds to start."""

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


@pytest.fixture(scope="module")
def services() -> Iterator[None]:
    """Model server, edge service and web app; until the file's last test their ports are in the environment."""
    root = artifacts_root()
    with own_services(root) as unwell:  # it leaves the environment as it was
        assert not unwell, unwell
        rest, edge = (f"http://127.0.0.1:{os.environ[name]}" for name in ("REST_PORT", "EDGE_PORT"))
        with running_app(rest=rest, edge=edge, artifacts=root) as address:
            os.environ["WEB_PORT"] = address.rpartition(":")[2]
            yield


@pytest.fixture(scope="module")
def generator(services: None) -> Iterator[Generator]:
    """Two workers, for plans on the services."""
    with Generator(workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def lone_generator() -> Iterator[Generator]:
    """One worker, for plans that name an address: no services beside it, which would want the cores too."""
    with Generator() as running:
        yield running
