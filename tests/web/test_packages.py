"""The page's packages are pinned, and their lock names no registry."""

from __future__ import annotations

import json
import re

from models.artifacts import REPOSITORY

DEMO = REPOSITORY / "web" / "demo"


def test_lock_has_hashes_and_no_addresses() -> None:
    packages = json.loads((DEMO / "package-lock.json").read_text())["packages"]
    installed = {name: entry for name, entry in packages.items() if name}
    assert len(installed) > 10
    assert not [name for name, entry in installed.items() if "resolved" in entry]
    assert not [name for name, entry in installed.items() if "integrity" not in entry]


def test_every_package_is_asked_for_by_one_version() -> None:
    package = json.loads((DEMO / "package.json").read_text())
    asked = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in asked.values()), asked
