"""What the service takes of the device, and what a client cannot take from it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.edge.service import COMMAND, Service, start_service, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_LIMIT, MEMORY_LIMIT = 180e6, 100e6  # bytes
ROW = {"instances": [[1.0] * 30]}


def test_environment_of_the_device_is_small():
    size = sum(path.lstat().st_blocks * 512 for path in COMMAND.parents[1].rglob("*"))
    assert size < SIZE_LIMIT, f"{size / 1e6:.0f} MB"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no smaps_rollup here")
def test_memory_of_all_its_processes_is_small(lite_folder: Path):
    """Idle, after one request to each model; a page that processes share counts once."""
    with start_service(lite_folder) as service:
        for model in ("mlp", "cnn", "lstm", "transformer"):
            service.client.get(f"/v1/models/{model}").raise_for_status()
        service.client.post("/v1/models/mlp:predict", json=ROW).raise_for_status()
        tree = [service.process.pid, *(p.pid for p in psutil.Process(service.process.pid).children(recursive=True))]
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in tree]
        memory = sum(int(re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024 for text in texts)
    assert len(tree) == 2
    assert memory < MEMORY_LIMIT, f"{memory / 1e6:.0f} MB"


ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
ASK_ALONE = """
import json, os, subprocess, sys, time, urllib.request
command, port = sys.argv[1:-1], sys.argv[-1]
names = sorted(line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:])
service = subprocess.Popen([*command, "--port", port], stdout=subprocess.DEVNULL)
try:
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
            break
        except OSError:
            assert service.poll() is None
            time.sleep(0.05)
    body = json.dumps({"instances": [[1.0] * 30]}).encode()
    answer = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/mlp:predict", body))
    print(json.dumps({"interfaces": names, "answer": answer}))
finally:
    service.terminate()
    service.wait(30)
"""


def test_service_needs_no_network(service: Service, lite_folder: Path):
    """In a network namespace of its own, in which there is loopback and nothing else."""
    tried = subprocess.run([*ALONE, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no network namespace can be made here: {tried.stderr.strip()}")
    command = [*ALONE, sys.executable, "-c", ASK_ALONE, COMMAND, "serve", "--models", lite_folder, "8090"]
    done = subprocess.run([str(c) for c in command], cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["interfaces"] == ["lo"]
    assert found["answer"] == service.client.post("/v1/models/mlp:predict", json=ROW).json()


def test_body_limit_can_be_set(lite_folder: Path):
    with start_service(lite_folder, "--max-body", "1000") as service:
        assert service.client.post("/v1/models/mlp:predict", json=ROW).status_code == 200
        answer = service.client.post("/v1/models/mlp:predict", json={"instances": [[1.0] * 30] * 10})
        assert answer.status_code == 413
        assert "larger than 1000 bytes" in answer.json()["error"]
        assert service.client.post("/v1/models/mlp:predict", json=ROW).status_code == 200


@pytest.fixture
def connections(service: Service) -> Iterator[list[socket.socket]]:
    opened = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(12)]
    yield opened
    for connection in opened:
        connection.close()


def test_clients_that_stop_in_the_middle_do_not_stop_the_others(service: Service, connections: list[socket.socket]):
    head = "POST /v1/models/mlp:predict HTTP/1.1\r\nHost: device\r\nContent-Length: 1000\r\n\r\n{"
    for connection in connections:
        connection.sendall(head.encode())
    for _ in range(3):
        assert service.client.post("/v1/models/mlp:predict", json=ROW).status_code == 200


def test_client_that_leaves_in_the_middle_costs_nothing(service: Service, connections: list[socket.socket]):
    head = "POST /v1/models/mlp:predict HTTP/1.1\r\nHost: device\r\nContent-Length: 1000\r\n\r\n{"
    before = refused(service)
    worker = psutil.Process(service.client.get("/healthz").json()["pid"])
    for connection in connections:
        connection.sendall(head.encode())
    wait_for(lambda: worker.num_threads() >= len(connections))
    for connection in connections:
        connection.close()
    assert service.client.post("/v1/models/mlp:predict", json=ROW).status_code == 200
    wait_for(lambda: refused(service) > before)  # one that left before its head was read is no request


def refused(service: Service) -> float:
    """How many predictions of ``mlp`` were answered with 400."""
    series = 'edge_requests_total{method="predict",model="mlp",status="400",version="2"}'
    found = re.search(f"^{re.escape(series)} (.+)$", service.client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0


def test_head_without_end_is_refused(service: Service, connections: list[socket.socket]):
    connections[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: device\r\nX: " + b"x" * (64 << 10) + b"\r\n\r\n")
    assert connections[0].recv(100).startswith(b"HTTP/1.1 431 ")
    assert service.client.get("/healthz").status_code == 200
