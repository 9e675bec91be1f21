"""docker-compose.yml and the Dockerfiles, as far as they can be checked without an engine.

What an image copies is put together here in a folder of its own and started with the room's environment, from its CMD:
an image that lacks a file or a package fails this test. With `docker compose` at hand, it reads the file too.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy.__main__ import main
from deploy.compose import OWN_IMAGE, PROFILES, compose_environment
from deploy.docker_check import REAL_IMAGE
from deploy.engine import compose_command, engine_trouble
from deploy.ports import free_ports
from deploy.services import load_services
from models.artifacts import REPOSITORY, artifacts_root
from serving.local import answers, wait_until_open
from tests.commands import run_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from export.bundle import Export

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
PORTS = tomllib.loads((REPOSITORY / "deploy" / "ports.toml").read_text())
ROOMS = ("edge", "web", "serving/server")
EXPOSED = {"edge": ["EDGE_PORT"], "web": ["WEB_PORT"], "serving/server": ["GRPC_PORT", "REST_PORT"]}
# The part of the Compose specification that is used here; a misspelt key is none of it.
KEYS = {
    "image", "build", "command", "environment", "volumes", "ports", "depends_on", "read_only", "tmpfs", "healthcheck",
    "restart", "profiles",
}  # fmt: skip


def instructions(room: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) of a room's Dockerfile."""
    lines = (REPOSITORY / room / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip() and not line.startswith("#")]


def build_context(room: str) -> list[Path]:
    """The files that the engine is sent: what .dockerignore lets through; its last rule that fits decides."""
    folder = REPOSITORY / room
    lines = [line.strip() for line in (folder / ".dockerignore").read_text().splitlines()]
    rules = [line for line in lines if line and not line.startswith("#")]

    def is_ignored(parts: tuple[str, ...]) -> bool:
        prefixes = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        ignored = False
        for rule in rules:
            pattern = rule.removeprefix("!").strip("/")
            inner = pattern.removeprefix("**/")
            names = parts if inner != pattern else [p for p in prefixes if p.count("/") == pattern.count("/")]
            if any(fnmatch.fnmatchcase(name, inner) for name in names):
                ignored = not rule.startswith("!")
        return ignored

    kept = []
    for at, folders, names in os.walk(folder):
        parts = Path(at).relative_to(folder).parts
        # An ignored folder is entered only where a rule lets something of it through again.
        wanted = ["/".join((*parts, f)) for f in folders]
        folders[:] = [
            f.split("/")[-1]
            for f in wanted
            if not is_ignored((*parts, f.split("/")[-1])) or any(r.startswith(f"!{f}") for r in rules)
        ]
        kept += [Path(at) / name for name in names if not is_ignored((*parts, name))]
    return sorted(kept)


def test_compose_services_are_those_without_docker() -> None:
    assert set(COMPOSE) == {"services", "x-args"}
    started = {name for name, service in COMPOSE["services"].items() if "profiles" not in service}
    assert started == {service.name for service in load_services()}
    monitoring = {name for name, service in COMPOSE["services"].items() if service.get("profiles") == ["monitoring"]}
    assert monitoring == {service.name for service in load_services(on_demand=True) if service.on_demand} | {"grafana"}
    for name, service in COMPOSE["services"].items():
        assert set(service) <= KEYS, name
        assert "image" in service or "build" in service, name


def test_compose_builds_each_room_on_the_base_that_its_dockerfile_names() -> None:
    builds = [
        service["build"] for name, service in COMPOSE["services"].items() if "build" in service and name != "watch"
    ]
    assert {Path(build["context"]) for build in builds} == {Path(room) for room in ROOMS}
    for build in builds:
        base = instructions(build["context"])[0]
        assert base == ("ARG", build["args"]["BASE_IMAGE"].removeprefix("${").removesuffix("}").replace(":-", "=", 1))


def test_compose_runs_our_own_server_as_it_runs_the_real_one() -> None:
    real, own = COMPOSE["services"]["serving"], COMPOSE["services"]["own"]
    differ = {key for key in {*real, *own} if real.get(key) != own.get(key)}
    assert differ == {"profiles", "image", "build", "ports"}
    assert own["profiles"] == ["own"]
    assert own["image"] == f"${{OWN_IMAGE:-{OWN_IMAGE}}}"


def test_compose_publishes_every_port_on_loopback_alone() -> None:
    published = [p for service in COMPOSE["services"].values() for p in service["ports"]]
    found = {}
    for text in published:
        match = re.fullmatch(r"127\.0\.0\.1:\$\{(\w+):-(\d+)\}:(\d+)", text)
        assert match, text
        found[match[1]] = int(match[2])
        inside = PORTS[match[1].removeprefix("OWN_")]
        assert int(match[3]) == inside, "inside, a service listens on its default port"
    assert found == {
        name: number for name, number in PORTS.items() if name != "LOCUST_PORT"
    }  # which no container opens


def test_compose_runs_the_edge_image_as_it_is_but_without_a_token() -> None:
    image = json.loads(next(text for name, text in instructions("edge") if name == "CMD"))
    assert COMPOSE["services"]["edge"]["command"] == [*image, "--allow-anonymous"]


def test_compose_mounts_read_only_and_checks_health() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert all(volume.endswith(":ro") for volume in service["volumes"]), name
        assert service["healthcheck"]["test"][0] == "CMD", name


def test_compose_and_processes_share_the_server_configs() -> None:
    (config,) = (REPOSITORY / "serving" / "config").iterdir()
    serving, (processes, *_) = COMPOSE["services"]["serving"], load_services()
    assert "./serving/config:/config:ro" in serving["volumes"]
    assert f"--monitoring_config_file=/config/{config.name}" in serving["command"]
    assert f"--monitoring_config_file=serving/config/{config.name}" in processes.command


def test_compose_runs_the_real_tensorflow_serving() -> None:
    serving = COMPOSE["services"]["serving"]
    assert serving["image"] == f"${{TF_SERVING_IMAGE:-{REAL_IMAGE}}}"
    assert "--allow_version_labels_for_unavailable_models=true" in serving["command"], "the config has labels"
    config = serving["command"][0].removeprefix("--model_config_file=/repository/")
    from serving.models_config import DOCKER_ROOT

    assert Path("/repository") == DOCKER_ROOT
    assert any(volume.endswith(f"/repository:{DOCKER_ROOT}:ro") for volume in serving["volumes"])
    assert config in (REPOSITORY / "serving" / "models_config.py").read_text()


@pytest.mark.skipif(compose_command() is None, reason="no docker compose here")
def test_compose_file_is_read_by_docker_compose() -> None:
    command = [*(compose_command() or []), "config", "--services"]
    environment = {**compose_environment(load_services()), "COMPOSE_PROFILES": PROFILES}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == set(COMPOSE["services"])


@pytest.mark.skipif(not engine_trouble(), reason="a Docker engine answers here")
def test_docker_without_an_engine_says_so_with_a_remedy(tmp_path: Path) -> None:
    for action in ("up", "down", "status"):
        done = run_command(main, action, DEPLOY="docker", ARTIFACTS=str(tmp_path))
        if action != "down":  # down ends the processes of a deployment without Docker all the same
            assert done.returncode == 2
        assert "skipped: no Docker engine" in done.stderr or "skipped: no docker compose" in done.stderr
        assert "leave out DEPLOY=docker" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_docker_check_without_an_engine_is_skipped() -> None:
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    for inherited in ("MAKEFLAGS", "MAKELEVEL"):  # where `make test` runs this, make would say which folder it enters
        environment.pop(inherited, None)
    done = subprocess.run(["make", "docker-check"], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.match(r"skipped: no Docker engine: .*; (install it|start dockerd)\n\Z", done.stdout), done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_image_installs_only_its_own_requirements(room: str) -> None:
    arguments = dict(text.split("=", 1) for name, text in instructions(room) if name == "ARG")
    runs = [
        re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], text) for name, text in instructions(room) if name == "RUN"
    ]
    if room == "edge":  # what 32-bit ARM has no wheel of comes from its base's own packages, there alone
        debian = runs.pop(0)
        assert debian.startswith('[ "$(dpkg --print-architecture)" != armhf ] || (')
        assert debian.endswith("install -y --no-install-recommends python3-venv python3-numpy)")
        runs = [text.replace("venv --system-site-packages /opt", "venv /opt") for text in runs]
    installs = [part.strip() for text in runs for part in text.split("&&")]
    assert "pip install --no-cache-dir --require-hashes --requirement requirements.txt" in installs
    own = {
        "python3 -m venv /opt/venv",
        "pip install --no-cache-dir --require-hashes --requirement requirements.txt",
        "pip install --no-cache-dir --no-deps --no-build-isolation .",
    }
    assert set(installs) <= own
    assert arguments["BASE_IMAGE"].startswith("python:3."), "a version, not what is newest that day"
    assert ("FROM", "${BASE_IMAGE}") in instructions(room)


@pytest.mark.parametrize("room", ROOMS)
def test_image_is_nobody_s_and_downloads_nothing_else(room: str) -> None:
    found = instructions(room)
    names = [name for name, _ in found]
    assert "ADD" not in names
    assert [text for name, text in found if name == "USER"] == ["nobody"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert names[-1] in ("CMD", "ENTRYPOINT")
    assert found[-1][1].startswith("["), "no shell between the engine's SIGTERM and the service"
    (health,) = (text for name, text in found if name == "HEALTHCHECK")
    assert 'CMD ["python"' in health, "there is no curl in a slim image"
    text = "\n".join(
        line for line in (REPOSITORY / room / "Dockerfile").read_text().splitlines() if "armhf" not in line
    )
    assert not re.search(r"https?://(?!127\.0\.0\.1|serving:|edge:)|curl|wget|apt", text)
    ports = {text for name, text in found if name == "EXPOSE"}
    assert ports == {" ".join(str(PORTS[name]) for name in EXPOSED[room])}


@pytest.mark.parametrize("room", ROOMS)
def test_image_copies_what_exists_and_nothing_that_was_made(room: str) -> None:
    context = {str(path.relative_to(REPOSITORY / room)) for path in build_context(room)}
    assert "requirements.txt" in context
    assert not [name for name in context if re.search(r"node_modules|\.venv|__pycache__", name)]
    for source, _ in copies(room):
        assert copied(room, source), f"COPY {source} finds nothing in {room}/"


def copies(room: str) -> list[tuple[str, str]]:
    """(source, place) of each COPY."""
    parts = [text.split() for name, text in instructions(room) if name == "COPY"]
    return [(source, words[-1]) for words in parts for source in words[:-1]]


def copied(room: str, source: str) -> dict[Path, Path]:
    """What a COPY of ``source`` takes from the build context: the file, and its path below the place."""
    folder, found = REPOSITORY / room, {}
    for path in build_context(room):
        name = path.relative_to(folder)
        base = Path(source)
        if fnmatch.fnmatch(str(name), str(base)) and len(name.parts) == len(base.parts):
            found[path] = Path(name.name)
        elif not base.parts or name.is_relative_to(base):
            found[path] = name.relative_to(base)
    return found


def lay_out(room: str, root: Path) -> Path:
    """Copy to ``root`` what the image copies; returns the image's working folder there."""
    workdir = next(text for name, text in instructions(room) if name == "WORKDIR")
    place = root / workdir.strip("/")
    for source, target in copies(room):
        for path, inside in copied(room, source).items():
            to = place / target / inside
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("room", ["edge", "web"])
def test_image_content_alone_answers(
    room: str,
    tmp_path: Path,
    free_port: Callable[[], int],
    spawn: Callable[..., subprocess.Popen],
    exports: dict[tuple[str, int], Export],
) -> None:
    place = lay_out(room, tmp_path)
    command = json.loads(next(text for name, text in instructions(room) if name == "CMD"))
    port = free_port()
    command[command.index("--port") + 1] = str(port)
    mounted = {"/models": artifacts_root() / "lite", "/artifacts": artifacts_root(), "/reports": tmp_path}
    command = [str(mounted.get(part, part)) for part in command]
    # The room's installed script would import from the repository, so the module is started from what was copied.
    command = ["-m", room, *command[1:]] if command[0] == room else command[1:]
    log = tmp_path / "log"
    environment = {**os.environ, "EDGE_TOKEN": "as-docker-run-e-gives-it"}
    with log.open("w") as output:
        process = spawn(
            REPOSITORY / room / ".venv" / "bin" / "python",
            *command,
            cwd=place if (place / room).exists() else place.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as response:
                assert response.status == 200
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "no answer within 60 s"
            time.sleep(0.1)


def test_server_image_content_serves_the_model_that_the_environment_names(
    tmp_path: Path, spawn: Callable[..., subprocess.Popen], exports: dict[tuple[str, int], Export]
) -> None:
    """Like `docker run -e MODEL_NAME=mlp`: its entry point is started, and what it becomes is stopped by SIGTERM."""
    place = lay_out("serving/server", tmp_path)
    entrypoint = json.loads(instructions("serving/server")[-1][1])
    grpc_port, rest_port = free_ports(2)
    environment = {
        **os.environ,
        "PATH": f"{REPOSITORY / 'serving' / 'server' / '.venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(place),
        "MODEL_NAME": "mlp",
        "MODEL_BASE_PATH": str(exports["mlp", 2].published.parent.parent),
    }
    log = tmp_path / "log"
    flags = ["--bind_address=127.0.0.1", f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
    with log.open("w") as output:
        command = [str(tmp_path / entrypoint[0].strip("/")), *flags]
        process = spawn(*command, cwd=place, env=environment, stdout=output, stderr=subprocess.STDOUT)
    wait_until_open(process, grpc_port, log)
    assert answers(f"127.0.0.1:{rest_port}", "mlp")
    process.terminate()
    assert process.wait(30) == 0
    assert "SIGTERM: no new requests" in log.read_text()
