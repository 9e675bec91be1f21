"""services.toml → what supervisord is told."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from deploy.services import Service, load_services, published_models
from deploy.supervision import config_path, socket_path, write_config, written_fingerprints
from models.errors import DeployError


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Service]:
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "made here"))
    for name, number in {"GRPC_PORT": 18601, "REST_PORT": 18602, "WEB_PORT": 18603, "EDGE_PORT": 18604}.items():
        monkeypatch.setenv(name, str(number))
    return load_services()


def test_services_take_ports_and_folders_from_the_environment(services: list[Service], tmp_path: Path) -> None:
    by_name = {service.name: service for service in services}
    assert set(by_name) == {"serving", "edge", "web"}
    assert "--rest_api_port=18602" in by_name["serving"].command
    assert f"--model_config_file={tmp_path}/made here/repository/models.config" in by_name["serving"].command
    assert by_name["serving"].ports == {"REST_PORT": 18602, "GRPC_PORT": 18601}
    assert "http://127.0.0.1:18604" in by_name["web"].command
    assert by_name["edge"].health_addresses() == ["http://127.0.0.1:18604/healthz"]


def test_health_asks_for_every_published_model(services: list[Service], tmp_path: Path) -> None:
    assert published_models() == []
    for model in ("mlp", "fifth"):
        (tmp_path / "made here" / "repository" / model / "2").mkdir(parents=True)
    serving = next(service for service in services if service.name == "serving")
    assert serving.health_addresses() == [f"http://127.0.0.1:18602/v1/models/{m}" for m in ("fifth", "mlp")]
    assert serving.example().endswith("/run/fifth.json http://127.0.0.1:18602/v1/models/fifth:predict")


def test_label_that_moves_is_no_reason_to_restart_the_model_server(services: list[Service], tmp_path: Path) -> None:
    serving = next(service for service in services if service.name == "serving")
    version = tmp_path / "made here" / "repository" / "mlp" / "2"
    version.mkdir(parents=True)
    config = version.parents[1] / "models.config"
    config.write_text("before")
    before = serving.fingerprint(), serving.loaded()
    config.write_text("after")
    assert (serving.fingerprint(), serving.loaded()) == before
    assert any(flag.startswith("--model_config_file_poll_wait_seconds=") for flag in serving.command)
    (version / "model.tflite").write_text("a version that is replaced in place is")
    assert serving.loaded().keys() == {str(version / "model.tflite")}


def test_config_is_what_supervisord_reads(services: list[Service]) -> None:
    config_path().parent.mkdir(parents=True)
    (config_path().parent.parent / "logs").mkdir()
    write_config(services, {service.name: f"{service.name}-1" for service in services})
    assert written_fingerprints() == {service.name: f"{service.name}-1" for service in services}

    options = ServerOptions()
    options.realize(["-c", str(config_path())])
    programs = {config.name: config.process_configs[0] for config in options.process_group_configs}
    assert set(programs) == {"serving", "edge", "web"}
    for service in services:
        program = programs[service.name]
        assert shlex.split(program.command)[1:] == list(service.command[1:])
        assert Path(shlex.split(program.command)[0]).is_absolute()
        assert program.stopasgroup
        assert program.killasgroup
        assert program.redirect_stderr
        assert Path(program.stdout_logfile).parent == config_path().parent.parent / "logs"


@pytest.mark.parametrize("name", ["100%", "a;b", "a#b"])
def test_folder_name_that_supervisord_cannot_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / name))
    with pytest.raises(DeployError, match=f"{name} has .* in its name.*ARTIFACTS="):
        write_config(load_services(), {"serving": "", "edge": "", "web": ""})


def test_socket_of_a_long_path_is_short_and_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for folder in ("a" * 120, "b" * 120):
        monkeypatch.setenv("ARTIFACTS", str(tmp_path / folder))
        path = socket_path()
        assert len(str(path)) < 90
        found.add(path)
    assert len(found) == 2


def test_fingerprint_follows_command_and_code(tmp_path: Path) -> None:
    def service(port: str = "1") -> str:
        return Service(
            name="s",
            about="",
            command=("run", port),
            ports={},
            health="",
            within_s=1,
            restart_on=("code",),
            root=tmp_path,
        ).fingerprint()

    (tmp_path / "code" / ".venv").mkdir(parents=True)
    (tmp_path / "code" / "app.py").write_text("1")
    first = service()
    assert service() == first
    (tmp_path / "code" / ".venv" / "library.py").write_text("not its code")
    assert service() == first
    assert service(port="2") != first
    (tmp_path / "code" / "app.py").write_text("2")
    assert service() != first
