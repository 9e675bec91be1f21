"""Canary beside stable on a real server: the share is the evidence's own, and what does not answer is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from compare.decision import decide
from compare.watch import AT_ONCE, ROWS, Watch, differ
from models.spec import Decision, Metric, ModelSpec
from serving.local import local_server, stop
from serving.models_config import CANARY, STABLE, write_configs
from tests.conftest import copy_published

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from export.bundle import Export

PAIR = {"model": "mlp", "stable": "1", "canary": "2"}


@pytest.fixture
def root(tmp_path: Path, exports: dict[tuple[str, int], Export]) -> Path:
    """The published mlp in two versions, with their evidence."""
    copy_published([exports["mlp", version] for version in (1, 2)], tmp_path)
    return tmp_path


def told(watch: Watch, *, rounds: int = 1) -> Callable[..., float | None]:
    for _ in range(rounds):
        watch.look()
    return lambda name, **labels: watch.registry.get_sample_value(name, labels)


def test_share_is_that_of_the_evidence_and_a_server_that_ends_is_told(
    root: Path, exports: dict[tuple[str, int], Export]
) -> None:
    case = exports["mlp", 2].evidence.case("serving_default", "test")
    assert case is not None
    decision = exports["mlp", 2].spec.decision
    assert decision is not None
    assert case.rows <= ROWS
    with local_server(write_configs(root, {"mlp": {STABLE: 1, CANARY: 2}})) as server:
        watch = Watch(server.grpc_address, root)
        whole = -(-case.rows // AT_ONCE)
        assert told(watch, rounds=whole - 1)("canary_disagreement_ratio", **PAIR) is None, "before all rows were asked"
        value = told(watch)
        recorded = [exports["mlp", version].evidence.case("serving_default", "test") for version in (1, 2)]
        before, after = (decide(c.outputs[decision.output], decision) for c in recorded if c is not None)
        assert value("canary_disagreement_ratio", **PAIR) == pytest.approx((before != after).mean())
        assert 0 < (value("canary_disagreement_ratio", **PAIR) or 0) < 1
        assert value("canary_rows_compared_total", **PAIR) == case.rows
        assert value("canary_up", model="mlp") == 1
        assert [value("model_available", model="mlp", version=version) for version in ("1", "2")] == [1, 1]
        told(watch)
        assert value("canary_rows_compared_total", **PAIR) == case.rows + AT_ONCE

        stop(server.process)
        value = told(watch)
        assert [value("model_available", model="mlp", version=version) for version in ("1", "2")] == [0, 0]
        assert value("canary_up", model="mlp") == 0
        assert value("canary_disagreement_ratio", **PAIR) is None


def test_labels_on_one_version_are_no_pair(root: Path) -> None:
    with local_server(write_configs(root, {"mlp": {STABLE: 2, CANARY: 2}})) as server:
        value = told(Watch(server.grpc_address, root))
    assert value("model_available", model="mlp", version="2") == 1
    assert value("canary_up", model="mlp") is None


def test_model_without_evidence_is_only_available(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "evidence" / "mlp" / "2.npz").write_bytes(b"half")
    with local_server(write_configs(root, {"mlp": {STABLE: 1, CANARY: 2}})) as server:
        watch = Watch(server.grpc_address, root)
        value = told(watch)
        told(watch)
    assert value("model_available", model="mlp", version="2") == 1
    assert value("canary_up", model="mlp") is None
    assert capsys.readouterr().out.count("is damaged") == 1


def test_forecast_differs_by_more_than_its_error_and_nan_differs() -> None:
    spec = ModelSpec("m", "", (), (), Decision("value", "y"), Metric("mae", higher_is_better=False, bound=0.5))
    before, after = np.zeros((4, 1), np.float32), np.array([[0.4], [0.6], [-0.6], [np.nan]], np.float32)
    assert differ(before, after, spec).tolist() == [False, True, True, True]
