"""Prometheus got by set-up, and `python -m deploy monitor` over the real deployment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from deploy import prometheus
from models.artifacts import REPOSITORY, artifacts_root
from serving.local import free_ports
from serving.models_config import write_configs
from tests.conftest import copy_published
from tests.deploy.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from export.bundle import Export

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


@pytest.mark.slow
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


@pytest.fixture
def artifacts(tmp_path: Path, exports: dict[tuple[str, int], Export]) -> Path:
    """Of the built artefacts what the services read, with a repository and a run folder of its own."""
    root = tmp_path / "artifacts"
    copy_published([exports["mlp", version] for version in (1, 2)], root)
    write_configs(root)
    for name in ("lite", "web"):
        (root / name).symlink_to(artifacts_root() / name)
    return root


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
