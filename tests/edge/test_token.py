"""The bearer token: what it guards, what it leaves open, where it may come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import pick_free_port
from tests.edge.service import Service, call_edge, start_service

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "correct-horse-battery-staple"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def guarded(lite_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(f"{TOKEN}\n")
    with start_service(lite_folder, "--token-file", str(file)) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/v1/models/cnn"),
        ("POST", "/v1/models/cnn:predict"),
        ("POST", "/v1/models/nope:predict"),
        ("POST", "/v1/reload"),
        ("GET", "/nothing"),
    ],
)
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ü", TOKEN],
)
def test_request_without_the_token_is_401(guarded: Service, method: str, path: str, header: str | None):
    headers = {} if header is None else {"Authorization": header.encode()}
    answer = guarded.client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert "Authorization: Bearer <token>" in answer.json()["error"]


def test_request_with_the_token_is_answered(guarded: Service):
    assert guarded.client.get("/v1/models", headers=RIGHT).status_code == 200
    assert guarded.client.get("/metrics", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    assert guarded.client.get("/nothing", headers=RIGHT).status_code == 404
    answer = guarded.client.post("/v1/models/mlp:predict", json={"instances": [[1.0] * 30]}, headers=RIGHT)
    assert answer.status_code == 200


def test_health_says_little_to_whom_it_does_not_know(guarded: Service):
    assert guarded.client.get("/healthz").json() == {"status": "ok"}
    assert "runtime" in guarded.client.get("/healthz", headers=RIGHT).json()


def test_token_of_the_environment_guards_too_and_is_nowhere_to_be_seen(lite_folder: Path):
    with start_service(lite_folder, environment={"EDGE_TOKEN": TOKEN}) as service:
        assert service.client.get("/v1/models").status_code == 401
        assert service.client.get("/v1/models", headers=RIGHT).status_code == 200
        assert TOKEN not in Path(f"/proc/{service.process.pid}/cmdline").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("short\n", "holds no token of 16 or more letters and digits"),
        ("", "holds no token of 16 or more"),
        ("two words that are long enough", "holds no token of 16 or more"),
        (None, "cannot be read"),
    ],
)
def test_file_without_a_token_is_one_sentence(lite_folder: Path, tmp_path: Path, content: str | None, message: str):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    done = call_edge("serve", "--port", pick_free_port(), "--models", lite_folder, "--token-file", file)
    assert done.returncode == 2
    assert message in done.stderr
    assert "token_urlsafe" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1"])
def test_open_address_without_a_token_is_refused_with_the_remedy(lite_folder: Path, bind: str):
    done = call_edge("serve", "--port", pick_free_port(), "--models", lite_folder, "--bind", bind)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --bind {bind} lets other machines in, and there is no token; make one (")
    assert "--allow-anonymous" in done.stderr
