"""Where the time goes, from pages of real servers: the parts add up to what the client saw."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from hdrh.histogram import HdrHistogram

from compare.own_services import own_services
from deploy.ports import port
from loadtest import phases
from models.artifacts import REPOSITORY, artifacts_root
from serving.client import GrpcClient, RestClient
from serving.local import LocalServer, local_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from export.bundle import Export

MONITORED = f"--monitoring_config_file={REPOSITORY}/serving/config/monitoring.config"
CALLS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    config = artifacts_root() / "repository" / "models.config"
    with local_server(config, engine="litert", flags=(MONITORED,)) as running:
        yield running


def asked(target: str, ask: Callable[[], object]) -> SimpleNamespace:
    """What ``phases`` reads of an outcome, of some calls one after the other."""
    service = HdrHistogram(1, 60_000_000, 3)
    for _ in range(CALLS):
        start = time.perf_counter()
        ask()
        service.record_value(int((time.perf_counter() - start) * 1e6))
    return SimpleNamespace(plan=SimpleNamespace(target=target, model="mlp"), service=service)


@pytest.mark.parametrize("target", ["serving-rest", "serving-grpc"])
def test_parts_of_the_model_server_add_up(server, exports: dict[tuple[str, int], Export], target):
    row = {"features": exports["mlp", 2].evidence.cases("serving_default")[0].inputs["features"][:1]}
    kind, address = {
        "serving-rest": (RestClient, server.rest_address),
        "serving-grpc": (GrpcClient, server.grpc_address),
    }[target]
    with kind(address) as client:
        before = phases.snapshot(target, address, rest_address=server.rest_address)
        outcome = asked(target, lambda: client.predict("mlp", row))
        after = phases.snapshot(target, address, rest_address=server.rest_address)
    found = phases.phases(before, after, outcome, 12.0)
    assert found["serialise"] == 12.0
    parts = [found[name] for name in ("wire", "server", "queue", "compute")]
    assert all(part is not None and part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(outcome.service.get_mean_value())
    assert found["compute"] > 0

    theirs = [{key: v for key, v in page.items() if key[0].startswith(":tensorflow:")} for page in (before, after)]
    of_theirs = phases.phases(*theirs, outcome, 12.0)  # what TF Serving itself would tell: no queue without batching
    assert of_theirs["queue"] is None
    assert of_theirs["compute"] == pytest.approx(found["compute"] + found["queue"], abs=2)
    assert of_theirs["wire"] == pytest.approx(found["wire"], abs=2)


def test_another_model_and_another_protocol_do_not_count(server, exports):
    row = {"features": exports["mlp", 2].evidence.cases("serving_default")[0].inputs["features"][:1]}
    with GrpcClient(server.grpc_address) as client:
        before = phases.snapshot("serving-rest", server.rest_address)
        outcome = asked("serving-rest", lambda: client.predict("mlp", row))
        after = phases.snapshot("serving-rest", server.rest_address)
    assert phases.phases(before, after, outcome, 1.0)["server"] is None


def test_parts_of_the_edge_service(exports):
    with own_services(artifacts_root(), serving=False) as unwell:
        assert not unwell
        address = f"127.0.0.1:{port('EDGE_PORT')}"
        case = exports["mlp", 2].evidence.cases("serving_default")[0]
        body = {"instances": case.inputs["features"][:1].tolist()}
        before = phases.snapshot("edge-http", address)
        with httpx.Client(trust_env=False) as client:
            outcome = asked(
                "edge-http",
                lambda: client.post(f"http://{address}/v1/models/mlp:predict", json=body).raise_for_status(),
            )
        after = phases.snapshot("edge-http", address)
    found = phases.phases(before, after, outcome, 1.0)
    assert found["queue"] is None
    assert found["compute"] > 0
    assert found["server"] > 0
    assert found["wire"] + found["server"] + found["compute"] == pytest.approx(outcome.service.get_mean_value())


def test_a_server_without_a_page_tells_nothing(free_port):
    address = f"127.0.0.1:{free_port()}"
    page = phases.snapshot("serving-rest", address)
    assert page == {}
    assert phases.snapshot("serving-grpc", address) == {}  # the page is on the REST port, which nobody has named
    outcome = SimpleNamespace(
        plan=SimpleNamespace(target="serving-rest", model="mlp"), service=HdrHistogram(1, 10**6, 3)
    )
    found = phases.phases(page, page, outcome, 3.0)
    assert found == {"serialise": 3.0, "wire": None, "server": None, "queue": None, "compute": None}


def grown(name: str, seconds: float, requests: float = 10, **labels: str) -> phases.Counters:
    """What a page that was empty before tells of a histogram."""
    key = frozenset(labels.items())
    return {(f"{name}_count", key): requests, (f"{name}_sum", key): seconds}


def test_behind_the_web_app_stands_the_model_server():
    serving = {"model": "mlp", "version": "2", "signature": "serving_default", "protocol": "rest"}
    after = {
        **grown("web_request_duration_seconds", 0.04, route="predict"),
        **grown("web_request_duration_seconds", 9.0, route="index"),
        **grown("model_server_request_seconds", 0.02, **serving, phase="total"),
        **grown("model_server_request_seconds", 0.003, **serving, phase="queue"),
        **grown("model_server_request_seconds", 0.01, **serving, phase="compute"),
    }
    service = HdrHistogram(1, 10**6, 3)
    service.record_value(5000)
    outcome = SimpleNamespace(plan=SimpleNamespace(target="web-http", model="mlp"), service=service)
    found = phases.phases({}, after, outcome, 40.0)
    assert found == pytest.approx(
        {"serialise": 40, "wire": 1000, "server": 2700, "queue": 300, "compute": 1000}, rel=0.01
    )


def test_a_restarted_server_counts_from_nought():
    def page(requests: float, seconds: float) -> phases.Counters:
        labels = {"model": "mlp", "protocol": "rest"}
        parts = ("total", "queue", "compute")
        name = "model_server_request_seconds"
        return {k: v for phase in parts for k, v in grown(name, seconds, requests, **labels, phase=phase).items()}

    service = HdrHistogram(1, 10**6, 3)
    service.record_value(9000)
    outcome = SimpleNamespace(plan=SimpleNamespace(target="serving-rest", model="mlp"), service=service)
    found = phases.phases(page(100, 5.0), page(10, 0.02), outcome, 0.0)
    assert found["compute"] == pytest.approx(2000)
