from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deploy.deployment import Deployment, new_deployments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def make_deployment() -> Iterator[Callable[..., Deployment]]:
    with new_deployments() as make:
        yield make


@pytest.fixture
def deployment(make_deployment: Callable[..., Deployment], tmp_path: Path) -> Deployment:
    return make_deployment(tmp_path)
