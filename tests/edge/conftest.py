"""The edge service as a device runs it: from its own environment, on a free port, over a copy of the files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.edge.service import COMMAND, Service, start_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from export.bundle import Export


@pytest.fixture(scope="session")
def lite_folder(tmp_path_factory: pytest.TempPathFactory, exports: dict[tuple[str, int], Export]) -> Path:
    """A copy of artifacts/lite, so that nothing of the repository is in reach."""
    if not COMMAND.is_file():
        pytest.fail(f"{COMMAND} is missing: run `make setup` first")
    root = next(iter(exports.values())).root / "lite"
    return shutil.copytree(root, tmp_path_factory.mktemp("device") / "models")


@pytest.fixture(scope="session")
def service(lite_folder: Path) -> Iterator[Service]:
    with start_service(lite_folder) as running:
        yield running
