"""Every model on every target, one test each: ``pytest tests/compare/test_parity.py -k 'cnn and tfjs-wasm'`` runs one cell."""

from __future__ import annotations

import pytest

from compare.comparison import Budget, Comparison, plan
from compare.guard import Lanes
from compare.own_services import own_services
from compare.target import all_targets
from export.bundle import find_exports
from models.artifacts import artifacts_root

pytestmark = pytest.mark.slow
CELLS = plan(find_exports(), all_targets())
# A GPU in software takes seconds for a model. One model on each is asked here; five rows of every model on each are in
# tests/web/test_runtimes.py.
GPUS, CHEAPEST = ("webgl", "webgpu"), "mlp"


def cell(row):
    costly = row.target.endswith(GPUS) and row.export.model != CHEAPEST
    marks = [pytest.mark.ci] if costly else []
    return pytest.param(row, id=f"{row.export.model}-v{row.export.version}-{row.target}", marks=marks)


@pytest.fixture(scope="module")
def comparison():
    """On services of this test's own: what runs on the usual ports may serve other files."""
    with own_services(artifacts_root()) as unwell, Lanes() as lanes:
        assert not unwell
        yield Comparison(lanes, budget=Budget(), tell=lambda piece: None)


def test_there_are_cells():
    assert CELLS, "no exports: run `make build` first"


@pytest.mark.parametrize("row", map(cell, CELLS))
def test_target_is_still_the_model(row, comparison):
    comparison.judge(row)
    comparison.close(row)
    if row.verdict.verdict == "skipped":
        pytest.skip(row.verdict.reason)
    if row.verdict.verdict == "info":  # known_fault of the target, which tests/web/test_runtimes.py holds to be one
        pytest.xfail(row.verdict.reason)
    assert row.verdict.verdict == "pass", f"{row.verdict.reason}; next: {row.verdict.next}"
