"""A whole small export on disk, and targets that misbehave, reachable in processes of their own too."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import compare
import compare.targets
from export.bundle import Export
from models.artifacts import REPOSITORY, write_json
from tests.compare.cases import SPEC, evidence

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture
def linear_export(tmp_path) -> Export:
    return make_linear_export(tmp_path / "artifacts")


def make_linear_export(root: Path) -> Export:
    """The linear model of ``cases.py`` as an export below ``root``, as far as the comparison reads it."""
    export = Export(root, "linear", 2)
    arrays: dict[str, np.ndarray] = {}
    for case in evidence():
        for side, tensors in (("in", case.inputs), ("out", case.outputs)):
            arrays |= {f"serving_default/{case.kind}/{side}/{name}": value for name, value in tensors.items()}
        if case.labels is not None:
            arrays[f"serving_default/{case.kind}/label"] = case.labels
    export.evidence_json.parent.mkdir(parents=True)
    np.savez(export.evidence_json.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]  # as in compare/npz.py
    write_json(export.evidence_json, {"schema": 1, "spec": SPEC.to_json(), "sha256": "0" * 64, "signatures": {}})
    return export


@pytest.fixture
def plugin_targets(monkeypatch):
    """As if PYTHONPATH held the plugin folder; spawned processes take sys.path over."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.syspath_prepend(str(REPOSITORY))
    monkeypatch.setenv("PYTHONPATH", f"{PLUGIN}:{REPOSITORY}")
    monkeypatch.setattr(compare.targets, "__path__", [*compare.targets.__path__, str(PLUGIN / "compare" / "targets")])
    from compare.target import all_targets

    yield {target.name: target for target in all_targets() if target.name.startswith("numpy-")}
    sys.modules.pop("compare.targets.numpy_linear", None)
