"""The rules and the dashboards over a model server, a device service, a page's server and the watch, really running.

What the services tell goes through promtool, which computes with Prometheus' own engine. In `make test-all` a real
Prometheus asks them: every half second, and its rules look back ten, so that what takes minutes in a deployment takes
seconds here.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil
import pytest
import yaml
from prometheus_client import generate_latest

from compare.own_services import own_services, running_command
from compare.watch import Watch
from deploy import prometheus
from deploy.ownership import listeners
from deploy.ports import free_ports
from models.artifacts import artifacts_root
from models.errors import DeployError
from serving.client import GrpcClient
from serving.models_config import CANARY, STABLE, write_configs
from tests.conftest import copy_published
from tests.deploy.waiting import eventually
from web.local import running_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from export.bundle import Export

pytestmark = pytest.mark.skipif(bool(prometheus.missing()), reason=prometheus.missing())
MODELS = ("cnn", "mlp", "transformer")
RULES = prometheus.FOLDER / "rules.yml"
RULE_GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
DASHBOARDS = sorted((prometheus.FOLDER / "grafana" / "dashboards").glob("*.json"))


EXPECTED = ['job:errors:ratio1m{job="serving", model="mlp"} == 0'] + [
    f'job:request_seconds:p{q}_1m{{job="{job}", model="mlp"{more}}} > 0'
    for job, more in (("serving", ', protocol="GRPC"'), ("serving", ', protocol="REST"'), ("edge", ""))
    for q in (50, 95, 99)
]
CANARY_LABELS = {"model": "mlp", "stable": "1", "canary": "2"}


def recorded(rule: dict[str, Any]) -> str:
    """The query that asks for what a rule records, neither missing nor NaN."""
    chosen = "".join(f'{name}="{value}", ' for name, value in rule.get("labels", {}).items())
    return f"{rule['record']}{{{chosen}}} >= 0"


def expressions(dashboard: Path) -> list[str]:
    return [target["expr"] for panel in json.loads(dashboard.read_text())["panels"] for target in panel["targets"]]


def promtool(*arguments: str | Path) -> None:
    program = prometheus.find("promtool")
    assert program
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "check",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "rules.test.yml")],
)
def test_promtool_is_content(check: tuple[str, ...]) -> None:
    *what, name = check
    promtool(*what, prometheus.FOLDER / name)


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    rules = [rule for group in RULE_GROUPS for rule in group["rules"] if "alert" in rule]
    tested = yaml.safe_load((prometheus.FOLDER / "rules.test.yml").read_text())["tests"]
    assert {test["alertname"] for case in tested for test in case.get("alert_rule_test", ())} == {
        r["alert"] for r in rules
    }
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "description", "action"}, rule["alert"]
        assert rule["for"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_targets_that_are_not_the_jobs_are_refused() -> None:
    with pytest.raises(DeployError, match="has the jobs serving, edge, web, watch"):
        prometheus.configuration({"serving": "127.0.0.1:1"}, rules=RULES)


@dataclass(kw_only=True)
class Asked:
    """The services; ``rows`` has one row of each model that is asked."""

    grpc: str  # host:port; the others are http://host:port
    rest: str
    edge: str
    web: str
    rows: dict[str, list]

    def predict(self, place: str, model: str = "mlp", rows: list | None = None) -> int:
        """The HTTP status of one prediction."""
        path = f"/v1/models/{model}:predict"
        address = {"serving": f"{self.rest}{path}", "edge": f"{self.edge}{path}"}.get(
            place, f"{self.web}/api/edge{path}"
        )
        return httpx.post(address, json={"instances": rows or self.rows[model]}, timeout=30).status_code


@dataclass(kw_only=True)
class Monitored(Asked):
    """The services and the Prometheus over them."""

    address: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """[{"metric", "value"}] of an instant query; an expression that is none fails the test."""
        answer = httpx.get(f"{self.address}/api/v1/query", params={"query": expression}, timeout=30).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]

    def value(self, expression: str) -> float | None:
        found = self.query(expression)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None

    def settled(self, expressions: dict[str, str]) -> dict[str, float]:
        """Their values once every target was asked after this call; 0 of what no target has told yet."""
        begin = time.time() + 0.01  # Prometheus moves the time of a sample by up to 2 ms
        eventually(lambda: (self.value("min(timestamp(up))") or 0) > begin, "new answers of all targets")
        return {name: self.value(expression) or 0 for name, expression in expressions.items()}

    def firing(self, alert: str) -> list[dict[str, str]]:
        """The labels of each firing alert of that name."""
        return [found["metric"] for found in self.query(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')]


@pytest.fixture(scope="module")
def root(exports: dict[tuple[str, int], Export], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts with a repository of their own: whatever was promoted in the built one, canary is another version here."""
    root = tmp_path_factory.mktemp("artifacts")
    copy_published([exports[model, version] for model in MODELS for version in (1, 2)], root)
    write_configs(root, {model: {STABLE: 1, CANARY: 2} for model in MODELS})
    for name in ("lite", "web"):
        (root / name).symlink_to(artifacts_root() / name)
    return root


@contextmanager
def asked(root: Path, exports: dict[tuple[str, int], Export]) -> Iterator[Asked]:
    """The services over the artefacts in ``root``; their ports are in the environment meanwhile."""
    with ExitStack() as stack:
        flags = ("--monitoring_config_file=serving/config/monitoring.config",)
        assert not stack.enter_context(own_services(root, flags=flags))
        rest, edge = (f"http://127.0.0.1:{os.environ[name]}" for name in ("REST_PORT", "EDGE_PORT"))
        web = stack.enter_context(running_app(rest=rest, edge=edge, artifacts=root))
        rows = {}
        for model in ("mlp", "cnn"):
            (values,) = exports[model, 2].evidence.cases()[0].inputs.values()
            rows[model] = values[:1].tolist()
        yield Asked(grpc=f"127.0.0.1:{os.environ['GRPC_PORT']}", rest=rest, edge=edge, web=web, rows=rows)


def told(job: str, page: str) -> Iterator[str]:
    """Each sample of a page of metrics as a series of promtool's, with the label that Prometheus adds."""
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, brace, labels = line.rpartition(" ")[0].partition("{")
            yield f'{name}{{job="{job}", {labels if brace else "}"}'


@pytest.mark.slow
def test_rules_and_dashboards_have_an_answer_in_what_the_services_tell(
    root: Path, tmp_path: Path, exports: dict[tuple[str, int], Export]
) -> None:
    """Promtool computes them over the names and labels that the services really have; the values are a rising line."""
    with asked(root, exports) as services:
        with GrpcClient(services.grpc) as grpc:
            grpc.predict("mlp", {"features": np.array(services.rows["mlp"], np.float32)})
        assert [services.predict(place) for place in ("serving", "edge", "web")] == [200] * 3
        watch = Watch(services.grpc, root)
        while not watch.registry.get_sample_value("canary_disagreement_ratio", CANARY_LABELS):
            watch.look()
        addresses = {"serving": services.rest, "edge": services.edge, "web": services.web}
        config = prometheus.configuration({**addresses, "watch": ""}, rules=RULES)
        paths = {
            job["job_name"]: job.get("metrics_path", "/metrics") for job in yaml.safe_load(config)["scrape_configs"]
        }
        pages = {job: httpx.get(f"{address}{paths[job]}").raise_for_status().text for job, address in addresses.items()}
        pages["watch"] = generate_latest(watch.registry).decode()
    series = [f'up{{job="{job}"}}' for job in pages]
    series += [name for job, page in pages.items() for name in told(job, page)]
    records = [rule for group in RULE_GROUPS for rule in group["rules"] if "record" in rule]
    queries = [query for dashboard in DASHBOARDS for query in expressions(dashboard)]
    assert len(records) > 15
    assert len(queries) > 30
    queries += [recorded(rule) for rule in records] + EXPECTED
    case = {
        "interval": "5s",
        "input_series": [{"series": name, "values": "0+1x24"} for name in series],
        "promql_expr_test": [
            {"expr": f"count({query}) > bool 0", "eval_time": "2m", "exp_samples": [{"labels": "{}", "value": 1}]}
            for query in queries
        ],
    }
    tests = tmp_path / "tests.yml"
    tests.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "5s", "tests": [case]}))
    promtool("test", "rules", tests)


@contextmanager
def monitoring(root: Path, folder: Path, exports: dict[tuple[str, int], Export]) -> Iterator[Monitored]:
    """Services over the artefacts in ``root`` and a Prometheus that sees them; its files and the logs are in ``folder``."""
    with ExitStack() as stack:
        services = stack.enter_context(asked(root, exports))
        watch_port, port = free_ports(2)
        watch = [sys.executable, "-m", "compare.watch", "--port", str(watch_port), "--server", services.grpc]
        watch += ["--every", "0.2"]
        stack.enter_context(running_command(watch, log=folder / "watch.log", environment=dict(os.environ)))
        addresses = {"serving": services.rest, "edge": services.edge, "web": services.web}
        targets = {name: address.removeprefix("http://") for name, address in addresses.items()}
        targets["watch"] = f"127.0.0.1:{watch_port}"
        config, rules = folder / "prometheus.yml", folder / "rules.yml"
        rules.write_text(re.sub(r"for: \w+", "for: 1s", RULES.read_text().replace("[1m]", "[10s]")))
        config.write_text(prometheus.configuration(targets, rules=rules, interval="500ms"))
        command = prometheus.command(port=port, data=folder / "data", config=config)
        log = folder / "prometheus.log"
        process = stack.enter_context(running_command(command, log=log, environment=dict(os.environ)))
        found = Monitored(address=f"http://127.0.0.1:{port}", **vars(services))

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(f"{found.address}/-/ready").status_code == 200 and len(found.query("up == 1")) == 4
            except httpx.TransportError:
                return False

        eventually(ready, "four targets that are up")
        yield found


@pytest.fixture(scope="module")
def monitored(
    root: Path, exports: dict[tuple[str, int], Export], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Monitored]:
    with monitoring(root, tmp_path_factory.mktemp("monitoring"), exports) as found:
        yield found


@pytest.fixture
def doomed(root: Path, exports: dict[tuple[str, int], Export], tmp_path: Path) -> Iterator[Monitored]:
    """For one test alone, which may end them."""
    with monitoring(root, tmp_path, exports) as found:
        yield found


@pytest.fixture
def busy(monitored: Monitored) -> Iterator[None]:
    """A little load of every kind."""
    stop = threading.Event()

    def send() -> None:
        with GrpcClient(monitored.grpc) as grpc:
            for turn in itertools.count():
                if stop.wait(0.02):
                    return
                grpc.predict("mlp", {"features": np.array(monitored.rows["mlp"], np.float32)})
                for place in ("serving", "edge", "web"):
                    monitored.predict(place, ("mlp", "cnn")[turn % 2])

    thread = threading.Thread(target=send)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.exhaustive
def test_counters_rise_by_the_numbers_of_requests(monitored: Monitored) -> None:
    sent = {"serving": 7, "edge": 5, "web": 3}
    queries = {
        # The watch asks by gRPC.
        "serving": 'sum(:tensorflow:serving:request_latency_count{model_name="mlp", API="predict", entrypoint="REST"})',
        "edge": 'sum(edge_requests_total{model="mlp", status="200"})',
        "web": 'sum(web_requests_total{route="predict", status="200"})',
        "ours": 'sum(model_server_request_seconds_count{model="mlp", protocol="rest", phase="total"})',
    }
    before = monitored.settled(queries)
    for place, number in sent.items():
        assert [monitored.predict(place) for _ in range(number)] == [200] * number
    sent |= {"ours": sent["serving"], "edge": sent["edge"] + sent["web"]}  # the page hands its requests on
    after = monitored.settled(queries)
    assert {name: after[name] - before[name] for name in queries} == sent


@pytest.mark.exhaustive
@pytest.mark.usefixtures("busy")
def test_every_recorded_series_is_there(monitored: Monitored) -> None:
    rules = [rule for group in RULE_GROUPS for rule in group["rules"] if "record" in rule]
    for query in (*map(recorded, rules), *EXPECTED):
        eventually(lambda query=query: monitored.query(query), query)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_has_an_answer(monitored: Monitored, dashboard: Path) -> None:
    found = expressions(dashboard)
    assert len(found) > 5
    for expression in found:
        eventually(lambda expression=expression: monitored.query(expression), expression)


@pytest.mark.exhaustive
def test_canary_that_decides_otherwise_is_an_alert(monitored: Monitored) -> None:
    """As they are built here, the transformer's versions differ in a fifth of the rows, the mlp's in one of 25."""

    def alerted() -> dict[str, str] | None:
        return next((alert for alert in monitored.firing("CanaryDisagrees") if alert["model"] == "transformer"), None)

    alert = eventually(alerted, "the transformer's alert")
    assert (alert["stable"], alert["canary"]) == ("1", "2")
    share = eventually(lambda: monitored.value('canary_disagreement_ratio{model="mlp"}'), "the mlp's share")
    assert 0 < share < 0.1
    assert "mlp" not in {alert["model"] for alert in monitored.firing("CanaryDisagrees")}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("busy")
def test_errors_of_a_model_are_an_alert_of_that_model(monitored: Monitored) -> None:
    def alerted() -> list[dict[str, str]]:
        assert [monitored.predict("edge", "cnn", [[1.0]]) for _ in range(10)] == [400] * 10
        return monitored.firing("ErrorRatioHigh")

    (alert,) = eventually(alerted, "an alert of the error ratio")
    assert (alert["job"], alert["model"]) == ("edge", "cnn")
    assert (monitored.value('job:errors:ratio1m{job="edge", model="mlp"}') or 0) == 0


@pytest.mark.exhaustive
def test_service_that_is_gone_is_an_alert_and_so_are_its_models(doomed: Monitored) -> None:
    eventually(lambda: doomed.query('canary_up{model="mlp"} == 1'), "a canary that answers")
    kill(doomed.edge)
    eventually(lambda: "edge" in {alert["job"] for alert in doomed.firing("TargetDown")}, "the device's alert")

    def page_fails() -> bool:
        assert doomed.predict("web") == 502
        return any(alert["job"] == "web" for alert in doomed.firing("ErrorRatioHigh"))

    eventually(page_fails, "the alert of a page whose back end is gone")
    kill(doomed.rest)
    for alert in ("ModelUnavailable", "CanaryUnanswered"):
        eventually(lambda alert=alert: "mlp" in {one["model"] for one in doomed.firing(alert)}, f"{alert} of the mlp")


def kill(address: str) -> None:
    owner = listeners()[int(address.rpartition(":")[2])]
    assert owner.pid
    for process in (*psutil.Process(owner.pid).children(recursive=True), psutil.Process(owner.pid)):
        process.kill()
