"""What docker-compose.yml adds with `--profile monitoring`, as far as it can be checked without an engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from packaging.requirements import Requirement
from prometheus_client.parser import text_string_to_metric_families

from deploy import prometheus
from models.artifacts import REPOSITORY
from serving.local import local_server
from serving.models_config import CANARY, STABLE, write_configs
from tests.conftest import copy_published
from tests.deploy.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from export.bundle import Export

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
PORTS = tomllib.loads((REPOSITORY / "deploy" / "ports.toml").read_text())
DOCKERFILE = REPOSITORY / COMPOSE["watch"]["build"]["dockerfile"]
GRAFANA = prometheus.FOLDER / "grafana"


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of that name in the watch's Dockerfile."""
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{name} ")]


def copied() -> list[tuple[Path, Path]]:
    """(file in the repository, its place below the image's working folder)."""
    found = []
    for arguments in instructions("COPY"):
        *sources, place = arguments.split()
        for source in map(Path, sources):
            if (REPOSITORY / source).is_dir():
                inner = [path.relative_to(REPOSITORY / source) for path in (REPOSITORY / source).glob("*.*")]
                found += [(REPOSITORY / source / path, Path(place) / path) for path in inner]
            else:
                found.append((REPOSITORY / source, Path(place) / source.name))
    return found


def needed() -> list[str]:
    """The lines that the image takes of the repository's lock, by the command of its Dockerfile."""
    (awk,) = re.findall(r"^awk '[^']*'", instructions("RUN")[0])
    done = subprocess.run(
        ["sh", "-c", f"{awk} requirements.txt"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_prometheus_asks_every_container_at_the_port_that_it_listens_on() -> None:
    config = yaml.safe_load((prometheus.FOLDER / "prometheus.yml").read_text())
    asked = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    ports = {"serving": "REST_PORT", "edge": "EDGE_PORT", "web": "WEB_PORT", "watch": "WATCH_PORT"}
    assert asked == {name: [f"{name}:{PORTS[port]}"] for name, port in ports.items()}
    assert "./deploy/monitoring:/etc/prometheus:ro" in COMPOSE["prometheus"]["volumes"]
    assert set(prometheus.RETENTION) < set(COMPOSE["prometheus"]["command"])


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_images_of_others_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", COMPOSE[name]["image"])


def test_grafana_finds_its_files_and_calls_nobody() -> None:
    mounted = dict(volume.split(":")[:2] for volume in COMPOSE["grafana"]["volumes"])
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/dashboards.yml").read_text())["providers"]
    place = next(source for source, target in mounted.items() if target == provider["options"]["path"])
    assert (REPOSITORY / place).resolve() == GRAFANA / "dashboards"
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{PORTS['PROMETHEUS_PORT']}"
    for path in (GRAFANA / "dashboards").glob("*.json"):
        dashboard = json.loads(path.read_text())
        assert dashboard["uid"] == path.stem
        assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    settings = COMPOSE["grafana"]["environment"]
    asking = [name for name in settings if re.search("REPORTING|CHECK_FOR|NEWS_FEED", name)]
    assert len(asking) == 4
    assert {settings[name] for name in asking} == {"false"}
    assert settings["GF_PLUGINS_PREINSTALL_DISABLED"] == settings["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_image_of_the_watch_is_sent_what_it_copies_and_nothing_else() -> None:
    rules = DOCKERFILE.with_name(f"{DOCKERFILE.name}.dockerignore").read_text().split()
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert let_in == {source for arguments in instructions("COPY") for source in arguments.split()[:-1]}
    assert instructions("USER") == ["nobody"]
    assert instructions("EXPOSE") == [str(PORTS["WATCH_PORT"])]
    assert COMPOSE["watch"]["build"]["context"] == "."


def test_image_of_the_watch_installs_all_that_its_packages_need() -> None:
    pins = [line.removesuffix("\\").strip() for line in needed() if re.match(r"\w", line)]
    names = {Requirement(pin).name for pin in pins}
    assert names == {"grpcio", "numpy", "prometheus-client", "protobuf", "typing-extensions"}
    for name in names:
        wanted = {
            r.name for r in map(Requirement, requires(name) or ()) if not r.marker or r.marker.evaluate({"extra": ""})
        }
        assert wanted <= names, name
    assert sum(line.strip().startswith("--hash=sha256:") for line in needed()) > len(pins)


@pytest.mark.slow
def test_image_content_of_the_watch_alone_compares(
    tmp_path: Path,
    exports: dict[tuple[str, int], Export],
    free_port: Callable[[], int],
    spawn: Callable[..., subprocess.Popen],
) -> None:
    """With the root environment's Python, but nothing else of the repository."""
    for source, place in copied():
        if not fnmatch.fnmatch(source.name, "*.pyc"):
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / place)
    root = tmp_path / "artifacts"
    copy_published([exports["mlp", version] for version in (1, 2)], root)
    port = free_port()
    (arguments,) = instructions("CMD")
    command = [sys.executable, *json.loads(arguments)[1:]]
    with local_server(write_configs(root, {"mlp": {STABLE: 1, CANARY: 2}})) as server:
        command[command.index("--port") + 1], command[command.index("--server") + 1] = str(port), server.grpc_address
        environment = {**os.environ, "ARTIFACTS": str(root)}
        with (tmp_path / "log").open("w") as log:
            process = spawn(*command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)

        def told() -> dict[str, float]:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            except httpx.TransportError:
                return {}
            found = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}
            return found if "canary_rows_compared_total" in found else {}

        assert eventually(told, "rows that were compared")["process_resident_memory_bytes"] < 150e6, (
            "it loads no TensorFlow"
        )
