from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.ports import forget_ports, port, remember_ports
from deploy.services import check_distinct, load_services
from models.errors import DeployError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS", str(tmp_path))
    for name in ("GRPC_PORT", "REST_PORT", "WEB_PORT", "EDGE_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_port_without_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert port("REST_PORT") == 8501
    monkeypatch.setenv("REST_PORT", "")
    assert port("REST_PORT") == 8501


def test_port_from_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REST_PORT", "9501")
    assert port("REST_PORT") == 9501


def test_port_of_the_running_deployment_is_remembered_until_down(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_ports({"REST_PORT": 9501})
    assert (port("REST_PORT"), port("EDGE_PORT")) == (9501, 8090)
    monkeypatch.setenv("REST_PORT", "9502")
    assert port("REST_PORT") == 9502
    monkeypatch.delenv("REST_PORT")
    forget_ports()
    assert port("REST_PORT") == 8501


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "85.01"])
def test_port_that_is_none_names_value_and_remedy(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EDGE_PORT", value)
    with pytest.raises(DeployError, match=f"EDGE_PORT={value} is no port.*EDGE_PORT=8090"):
        port("EDGE_PORT")


def test_two_services_on_one_port_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_PORT", "18601")
    monkeypatch.setenv("EDGE_PORT", "18601")
    with pytest.raises(DeployError, match="EDGE_PORT and WEB_PORT are both 18601"):
        check_distinct(load_services())
