"""A version published, a roll-back and a killed server under a real load, on a private deployment."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from loadtest import events, results
from loadtest.private_deployment import private_deployment
from models.artifacts import artifacts_root, fingerprint
from models.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from loadtest.generator import Generator

SECONDS = {"publish": 2.4, "rollback": 2.4, "kill": 4.0}  # shorter than the command's own
ASKED = {"publish": "serving-rest", "rollback": "serving-grpc", "kill": "serving-rest"}


def repository_now() -> str:
    return fingerprint([artifacts_root() / "repository"])


@pytest.mark.slow
def test_nothing_fails_but_where_the_server_is_killed(
    lone_generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUIET_S", 0.5)
    before = repository_now()
    rows = {}
    with private_deployment("mlp") as deployment:
        first = deployment.version
        for event in events.EVENTS:
            shorter = dataclasses.replace(event, seconds=SECONDS[event.name])
            rows[event.name] = events.run_event(lone_generator, deployment, shorter, ASKED[event.name])
        root = deployment.root
    assert not root.exists()
    assert repository_now() == before, "the user's own repository stays as it is"
    for name in ("publish", "rollback"):
        assert rows[name]["failed"] == 0, rows[name]["errors"]
        assert rows[name]["sent"] > 100
    assert [mark["what"] for mark in rows["publish"]["marks"]] == [
        f"version {first + 1} published",
        f"version {first + 1} answers",
    ]
    assert [mark["what"] for mark in rows["rollback"]["marks"]] == [
        f"stable promoted, {first} → {first + 1}",
        f"stable rolled back, {first + 1} → {first}",
    ]
    kill = rows["kill"]
    assert [mark["what"] for mark in kill["marks"]] == ["server killed", "server answers again"]
    assert kill["failed"] > 0, "requests were due while no server was there"
    assert kill["answered"] > 0
    assert events.broken({**kill, "invalid": None}) == ""
    failed_at = [row["at_s"] for row in kill["timeline"] if row["failed"]]
    assert min(failed_at) > kill["marks"][0]["at_s"] - 1, "none failed before"

    path = results.write_events(list(rows.values()), folder=tmp_path)
    data = json.loads(path.read_text())
    assert data["events"] == list(rows.values())
    assert json.loads((tmp_path / "history" / data["run_id"] / path.name).read_text()) == data
    said = events.table(data["events"])
    assert "publish" in said
    assert f" {kill['failed']} " in said


def row(**changed: Any) -> dict[str, Any]:
    figures = dict.fromkeys(("p50", "p90", "p95", "p99", "p999", "max", "mean"), 1.0)
    return {
        "model": "mlp",
        "target": "serving-rest",
        "event": "publish",
        "rate": 50.0,
        "marks": [{"at_s": 2.0, "what": "version 3 published"}],
        "sent": 100,
        "answered": 99,
        "failed": 1,
        "allowed_failed": 0,
        "latency_ms": figures,
        "invalid": None,
        "errors": [{"message": "HTTP 404", "count": 1}],
        "timeline": [],
        **changed,
    }


def test_one_failed_request_breaks_a_publication() -> None:
    assert events.broken(row()) == "1 requests failed: HTTP 404"
    assert events.broken(row(allowed_failed=None)) == ""
    assert events.broken(row(failed=0, errors=[], invalid="late")) == "late"
    assert "1 requests failed: HTTP 404" in events.table([row()])


def test_table_says_from_when_to_when_requests_failed() -> None:
    failed = [0, 3, 0, 4, 0]
    timeline = [{"at_s": 0.25 * number, "failed": count} for number, count in enumerate(failed)]
    assert events.failing(row(timeline=timeline)) == "0.25–1 s"
    assert events.failing(row(timeline=timeline[:4])) == "0.25–the end"
    assert events.failing(row(timeline=timeline[:1])) == "–"


def test_events_of_another_form_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        results.write_events([row(event="earthquake")], folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_model_without_an_export_has_no_private_deployment() -> None:
    with pytest.raises(ModelError, match="mlq"), private_deployment("mlq"):
        pass
