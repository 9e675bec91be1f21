"""Roots to build in: a copy of one exported model, what `make convert` does not make, and models as a user may bring."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import pytest

from lite.build import find_job, up_to_date
from lite.variants import DEPLOYED, VARIANTS
from tests.lite.building import KeptWorkers, run_lite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from export.bundle import Export


@pytest.fixture(scope="session")
def workers() -> Iterator[KeptWorkers]:
    """The converters of all tests here."""
    kept = KeptWorkers()
    yield kept
    kept.close()


@pytest.fixture
def mlp_root(tmp_path: Path, exports: dict[tuple[str, int], Export]) -> Path:
    """SavedModel and evidence of version 2 of ``mlp``, and nothing else: no Keras file, no training folder."""
    export = exports["mlp", 2]
    shutil.copytree(export.saved_model, tmp_path / "savedmodels" / "mlp" / "2")
    (tmp_path / "evidence" / "mlp").mkdir(parents=True)
    for suffix in (".json", ".npz"):
        shutil.copy(export.evidence_json.with_suffix(suffix), tmp_path / "evidence" / "mlp")
    return tmp_path


@pytest.fixture(scope="session")
def made(workers: KeptWorkers, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Export, str], Export]:
    """``made(export, variant)``: the export beside which that file lies; read only.

    It is the given one where `make convert` or `make lite` has made the file, else one in a root of the tests' own,
    where it is made when it is first wanted.
    """
    root = tmp_path_factory.mktemp("made")

    def make(export: Export, variant: str) -> Export:
        if variant in DEPLOYED or up_to_date(find_job(export, variant)):
            return export
        for part in ("training", "savedmodels", "evidence"):
            folder = root / part / export.model
            if not folder.is_symlink():
                folder.parent.mkdir(exist_ok=True)
                folder.symlink_to(export.root / part / export.model)
        own = dataclasses.replace(export, root=root)
        if not up_to_date(find_job(own, variant)):
            done = run_lite(root, "--variants", variant, workers=workers, models=export.model)
            assert done.returncode == 0, done.stderr
        return own

    return make


@pytest.fixture(scope="session")
def user_root(workers: KeptWorkers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's SavedModels, converted: ``two`` (float and int inputs, two outputs), ``fixed`` (batch 4), ``text`` and ``word`` (strings)."""
    from tests.lite.user_models import write_user_models

    root = tmp_path_factory.mktemp("user")
    write_user_models(root)
    for models, variants in (("two,fixed", VARIANTS), ("text,word", DEPLOYED)):
        done = run_lite(root, "--variants", *variants, workers=workers, models=models)
        assert done.returncode == 0, done.stderr
    return root
