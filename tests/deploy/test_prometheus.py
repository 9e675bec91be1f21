"""Prometheus got by set-up, and `python -m deploy monitor` over the real deployment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from deploy import prometheus
from deploy.ports import free_ports
from models.artifacts import REPOSITORY, artifacts_root
from serving.models_config import write_configs
from tests.conftest import copy_published
from tests.deploy.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from export.bundle import Export
    from tests.deploy.deployment import Deployment

TOOLS = {"PATH": os.environ["PATH"]}
PORTS = ("GRPC_PORT", "REST_PORT", "WEB_PORT", "EDGE_PORT", "PROMETHEUS_PORT", "WATCH_PORT")


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Prometheus on PATH; what set-up unpacks lies in the folder that this gives."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-cache", "dpkg-deb", "tar"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(prometheus, "UNPACKED", tmp_path / "prometheus")
    return tmp_path / "prometheus"


def test_machine_without_prometheus_is_told_what_to_do(without: Path) -> None:
    assert prometheus.find() is None
    assert "apt-get install prometheus" in prometheus.missing()
    with pytest.raises(prometheus.DeployError, match="no prometheus here"):
        prometheus.command(port=1, data=without, config=without)


def test_set_up_without_the_package_goes_on_and_asks_once(
    without: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    prometheus.make_prometheus(tmp_path / "tried")
    assert "apt-get does not run" in capsys.readouterr().out
    prometheus.make_prometheus(tmp_path / "tried")
    assert capsys.readouterr().out == ""
    assert not without.exists()


def test_mirror_that_does_not_answer_is_given_up(
    without: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apt_get = tmp_path / "bin" / "apt-get"
    apt_get.unlink(missing_ok=True)
    apt_get.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    apt_get.chmod(0o755)
    for limit in ("UPDATE_S", "DOWNLOAD_S"):
        monkeypatch.setattr(prometheus, limit, 0.2)
    prometheus.make_prometheus(tmp_path / "tried")
    said = capsys.readouterr().out
    assert "no prometheus here" in said
    assert "not done within 0.2 s" in said
    assert not without.exists()


APT = """#!/bin/sh
# Stands in for the network: `download` gives the packages that lie beside it, `depends` names them.
case "$(basename "$0") $1" in
    "apt-get download") shift 2; for name; do cp "$PACKAGES/$name.deb" .; done ;;
    "apt-cache depends") printf 'prometheus\\n  Depends: libc6\\nlibjs-moment\\n  |Depends: node\\nfonts-icons\\n' ;;
esac
"""


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb here, which unpacks Debian's package")
def test_package_and_what_its_page_needs_are_unpacked_once(
    without: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the real dpkg-deb, from packages of a few bytes; the real ones are got over the network in `make test-all`."""
    files = {
        "prometheus": ("usr/bin/prometheus", "usr/bin/promtool", "usr/share/prometheus/web/index.html"),
        "libjs-moment": ("usr/share/javascript/moment/moment.js", "usr/share/javascript/moment-timezone/data/all.json"),
        "fonts-icons": ("usr/share/fonts/icons.ttf",),
    }
    for name, paths in files.items():
        package = tmp_path / "made" / name
        for path in paths:
            (package / path).parent.mkdir(parents=True, exist_ok=True)
            (package / path).write_text("#!/bin/sh\n")
            (package / path).chmod(0o755)
        (package / "DEBIAN").mkdir()
        control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a test\nDescription: a test\n"
        (package / "DEBIAN" / "control").write_text(control)
        subprocess.run(
            ["dpkg-deb", "--build", package, package.with_suffix(".deb")], check=True, capture_output=True, env=TOOLS
        )
    for name in ("apt-get", "apt-cache"):
        (tmp_path / "bin" / name).unlink(missing_ok=True)
        (tmp_path / "bin" / name).write_text(APT)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PACKAGES", str(tmp_path / "made"))
    for name in ("basename", "cp"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name, path=TOOLS["PATH"]) or "")
    prometheus.make_prometheus(tmp_path / "tried")
    said = capsys.readouterr().out
    assert said == "setup: getting Prometheus with apt-get\n"
    found = {str(path.relative_to(without)) for path in without.rglob("*") if path.is_file()}
    assert found == {path for paths in files.values() for path in paths if "moment-timezone/data" not in path}
    assert prometheus.find() == str(without / "usr" / "bin" / "prometheus")
    assert prometheus.find("promtool") == str(without / "usr" / "bin" / "promtool")
    command = prometheus.command(port=1, data=tmp_path, config=tmp_path)
    assert f"--web.local-assets={without}/usr/share/prometheus/web" in command
    prometheus.make_prometheus(tmp_path / "tried again")
    assert capsys.readouterr().out == "", "it is here"


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get here, which Debian's package comes by")
def test_package_is_unpacked_and_runs_with_its_page(
    without: Path,
    tmp_path: Path,
    free_port: Callable[[], int],
    spawn: Callable[..., subprocess.Popen],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for limit in ("UPDATE_S", "DOWNLOAD_S"):
        monkeypatch.setattr(prometheus, limit, 60)  # within a test's time; what is slower is skipped
    prometheus.make_prometheus(tmp_path / "tried")
    if prometheus.find() is None:
        pytest.skip(f"the package cannot be had: {capsys.readouterr().out}")
    assert prometheus.find() == str(without / "usr" / "bin" / "prometheus")
    assert prometheus.find("promtool")
    port = free_port()
    config = prometheus.FOLDER / "prometheus.yml"
    spawn(*prometheus.command(port=port, data=tmp_path / "data", config=config), stderr=subprocess.DEVNULL)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:

        def page() -> str:
            try:
                answer = client.get("/classic/alerts")
            except httpx.TransportError:
                return ""
            return answer.text if answer.status_code == 200 else ""  # 503 until it is ready

        assert "CanaryDisagrees" in eventually(page, "the page of alerts")
        assert client.get("/classic/static/jquery/jquery.min.js").status_code == 200


# The real Prometheus, and in place of all that it asks one other service.
MONITORED = """
[first]
about = "a stand-in for what is asked"
command = ["{python}", "-m", "http.server", "{{REST_PORT}}", "--bind", "127.0.0.1"]
ports = ["REST_PORT"]
health = "http://127.0.0.1:{{REST_PORT}}/"
within_s = 60
addresses = ["http://127.0.0.1:{{REST_PORT}}"]
try = "nothing"

[prometheus]
about = "as in deploy/services.toml"
command = [
    "{python}", "-m", "deploy.prometheus", "--port", "{{PROMETHEUS_PORT}}", "--data", "{{artifacts}}/run/prometheus",
    "serving=127.0.0.1:{{REST_PORT}}", "edge=127.0.0.1:{{REST_PORT}}", "web=127.0.0.1:{{REST_PORT}}", "watch=127.0.0.1:{{REST_PORT}}",
]
ports = ["PROMETHEUS_PORT"]
health = "http://127.0.0.1:{{PROMETHEUS_PORT}}/-/ready"
within_s = 60
addresses = ["http://127.0.0.1:{{PROMETHEUS_PORT}}"]
try = "nothing"
on_demand = true
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(prometheus.missing()), reason=prometheus.missing())
def test_monitor_adds_prometheus_until_down(make_deployment: Callable[..., Deployment], tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path, services=MONITORED)
    (port,) = free_ports(1)
    deployment.ports["PROMETHEUS_PORT"] = port

    def services() -> list[str]:
        return [line.split()[0] for line in deployment.run("status").stdout.splitlines()[2:]]

    assert deployment.run("up").returncode == 0
    assert services() == ["first"]
    monitor = deployment.run("monitor")
    assert monitor.returncode == 0, monitor.stderr
    assert "prometheus is healthy" in monitor.stdout
    assert re.search(r"^TargetDown +(inactive|pending)$", monitor.stdout, re.MULTILINE)
    assert "CanaryDisagrees" in monitor.stdout
    assert f"Prometheus: http://127.0.0.1:{port}" in monitor.stdout
    assert deployment.run("up").returncode == 0
    assert services() == ["first", "prometheus"], "it stays"
    assert deployment.run("down").stdout == "stopped first, prometheus\n"
    assert services() == ["first"]


@pytest.fixture
def artifacts(tmp_path: Path, exports: dict[tuple[str, int], Export]) -> Path:
    """Of the built artefacts what the services read, with a repository and a run folder of its own."""
    root = tmp_path / "artifacts"
    copy_published([exports["mlp", version] for version in (1, 2)], root)
    write_configs(root)
    for name in ("lite", "web"):
        (root / name).symlink_to(artifacts_root() / name)
    return root


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.skipif(bool(prometheus.missing()), reason=prometheus.missing())
def test_monitor_stays_with_the_deployment_until_down(artifacts: Path) -> None:
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    environment = {**os.environ, **ports, "ARTIFACTS": str(artifacts)}

    def deploy(action: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deploy", action]
        return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=200)

    try:
        monitor = deploy("monitor")
        assert monitor.returncode == 0, monitor.stderr
        assert "CanaryDisagrees" in monitor.stdout
        assert f"Prometheus: http://127.0.0.1:{ports['PROMETHEUS_PORT']}" in monitor.stdout
        again = deploy("up")
        assert again.returncode == 0, again.stderr
        status = deploy("status")
        assert status.returncode == 0, status.stdout
        services = [line.split()[0] for line in status.stdout.splitlines()[2:]]
        assert services == ["serving", "edge", "web", "watch", "prometheus"]
    finally:
        down = deploy("down")
    assert set(down.stdout.removeprefix("stopped ").strip().split(", ")) == set(services)
    assert [line.split()[0] for line in deploy("status").stdout.splitlines()[2:]] == ["serving", "edge", "web"]
