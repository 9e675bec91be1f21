"""The process: one, that needs no TensorFlow, drains on SIGTERM, leaves nothing, and says what is wrong in one sentence."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from model_server.listening import check_free

from deploy.ports import free_ports, reserved_ports
from serving.client.errors import ClientError
from serving.client.grpc import GrpcClient
from serving.client.rest import RestClient
from serving.launch import SERVER, command
from tests.serving.deadlines import wait_for

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = SERVER / ".venv" / "bin" / "python"


def run(*flags: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("litert"), *flags], capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})}
    )


def test_environment_has_no_tensorflow():
    found = subprocess.run(
        [PYTHON, "-c", "import importlib.util as u; print(u.find_spec('tensorflow'), u.find_spec('keras'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["None", "None"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_ends_the_one_process_and_frees_the_ports(name, serve, add_version):
    add_version(1)
    running = serve()
    process = psutil.Process(running.process.pid)
    assert process.children(recursive=True) == []
    running.process.send_signal(signal.Signals[name])
    assert running.process.wait(15) == 0
    for port in (running.grpc_port, running.rest_port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_requests_in_flight_are_answered_after_sigterm(serve, add_version):
    add_version(1)
    running = serve()
    rows = {"features": np.ones((60_000, 30), np.float32)}
    answers: list[object] = []

    def ask(client: RestClient | GrpcClient) -> None:
        with client:
            try:
                answers.append(client.predict("mlp", rows, timeout=60)["probability"].shape)
            except ClientError as error:
                answers.append(error)

    by_rest, by_grpc = RestClient(running.rest_address), GrpcClient(running.grpc_address)
    by_rest.predict("mlp", {"features": rows["features"][:1]})  # the output dtypes are known from here on
    before = cpu(running.process.pid)
    threads = [threading.Thread(target=ask, args=(client,)) for client in (by_rest, by_grpc)]
    for thread in threads:
        thread.start()
    wait_for(lambda: cpu(running.process.pid) > before + 0.1, "the server works on the requests")
    running.process.terminate()
    for thread in threads:
        thread.join(60)
    assert running.process.wait(30) == 0
    # A request whose body had not arrived yet may be refused, but it is told so.
    for answer in answers:
        assert answer == (60_000, 1) or getattr(answer, "code", None) == "UNAVAILABLE", answer
    assert len(answers) == 2
    assert (60_000, 1) in answers


def cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def test_killed_server_leaves_nothing_behind(serve, add_version):
    add_version(1)
    running = serve()
    running.process.kill()
    running.process.wait(10)
    for port in (running.grpc_port, running.rest_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2)


@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_taken_port_is_named_in_one_sentence(flag, add_version, base):
    add_version(1)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        ports = {"port": free_ports(1)[0], "rest_api_port": 0, flag: taken}
        done = run(f"--model_base_path={base}", *[f"--{name}={value}" for name, value in ports.items()])
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"error: port {taken} on 127.0.0.1 is taken by another process; stop it or choose another port with --{flag}="
    )


def test_checking_a_port_does_not_open_it(monkeypatch):
    """Who waits for the server would take the moment that it is open for a server that is ready."""
    listening: list[socket.socket] = []
    monkeypatch.setattr(socket.socket, "listen", lambda found, *_: listening.append(found))
    check_free("127.0.0.1", free_ports(1)[0], "port")
    assert listening == []


def test_reserved_port_is_for_the_server_alone():
    with reserved_ports(1) as (port,):
        check_free("127.0.0.1", port, "port")
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))
        assert port not in free_ports(500)


def test_unknown_flag_is_reported_and_otherwise_ignored():
    done = run("--no_such_flag=1", "--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "model-server")
    done = run("--no_such_flag=1")
    assert done.stderr.splitlines()[0] == "unknown argument: --no_such_flag=1"


def test_help_lists_every_flag():
    text = run("--help").stdout
    for flag in ("--port=8500", "--rest_api_port=0", "--model_config_file=", "--bind_address=127.0.0.1"):
        assert flag in text


def test_missing_libpython_names_the_package(tmp_path: Path, base):
    """find_libpython, which pyvoy asks, finds nothing: as with Debian's python3 without libpython3.x."""
    (tmp_path / "find_libpython.py").write_text(
        "def candidate_paths(**_):\n    return []\ndef find_libpython():\n    return None\n"
    )
    code = "import sys; sys.argv[0] = 'model-server'; from model_server.launch import main; main()"
    port = free_ports(1)[0]
    done = subprocess.run(
        [PYTHON, "-c", code, f"--model_base_path={base}", f"--port={port}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "has no shared libpython3" in done.stderr
    assert "apt-get install libpython3" in done.stderr
