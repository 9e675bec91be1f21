"""New files take the place of old ones while the service answers; broken ones never do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import threading
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from deploy.health import reload
from deploy.services import load_services
from edge.errors import NotFoundError
from edge.library import ModelLibrary
from tests.edge.service import Service, start_service, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from export.bundle import Export


@pytest.fixture
def models(lite_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(lite_folder / "cnn", tmp_path / "models" / "cnn").parent


def put(source: Path, target: Path, **changes: Any) -> None:
    """The .tflite of ``source`` and its json, as version of the folder that ``target`` is in; each by rename."""
    description = json.loads(source.with_suffix(".json").read_text()) | {"version": int(target.parent.name)} | changes
    target.parent.mkdir(exist_ok=True)
    for path, content in (
        (target, source.read_bytes()),
        (target.with_suffix(".json"), json.dumps(description).encode()),
    ):
        (target.parent / ".tmp").write_bytes(content)
        os.replace(target.parent / ".tmp", path)


def listed(service: Service) -> dict[int, dict[str, Any]]:
    (model,) = service.client.get("/v1/models").json()["models"]
    return {version["version"]: version for version in model["versions"]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_new_version_answers_and_one_that_is_removed_does_not(models: Path, exports: dict[tuple[str, int], Export]):
    image = exports["cnn", 2].evidence.cases()[0].inputs["image"][:1].tolist()

    def ask(path: str) -> httpx.Response:
        return service.client.post(f"/v1/models/cnn{path}:predict", json={"instances": image})

    two = shutil.move(models / "cnn" / "2", models / "elsewhere")
    with start_service(models, "--poll", "0.05") as service:
        old = ask("").json()
        assert ask("/versions/2").status_code == 404
        shutil.move(two, models / "cnn" / "2")
        wait_for(lambda: 2 in listed(service))
        wait_for(lambda: listed(service)[2]["error"] is None)
        assert ask("").json() == ask("/versions/2").json() != old
        shutil.rmtree(models / "cnn" / "2")
        wait_for(lambda: ask("/versions/2").status_code == 404)
        assert ask("").json() == old
        assert 'edge_model_reloads_total{result="ok"} 1.0' in service.client.get("/metrics").text


def test_reload_under_load_fails_no_request_and_keeps_no_memory(models: Path, exports: dict[tuple[str, int], Export]):
    image = exports["cnn", 2].evidence.cases()[0].inputs["image"][:1].tolist()
    sources = [shutil.copytree(models / "cnn" / name, models.parent / f"source{name}") for name in "12"]
    served = models / "cnn" / "1" / "int8.tflite"
    shutil.rmtree(models / "cnn" / "2")
    stop = threading.Event()
    answers: list[tuple[int, str]] = []

    def ask(service: Service) -> None:
        with httpx.Client(base_url=service.client.base_url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/v1/models/cnn:predict", json={"instances": image})
                answers.append((answer.status_code, answer.text))

    with start_service(models, "--poll", "0.02") as service:
        known = [service.client.post("/v1/models/cnn:predict", json={"instances": image}).text]
        worker = psutil.Process(service.client.get("/healthz").json()["pid"])
        threads = [threading.Thread(target=ask, args=(service,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for i in range(1, 41):
                put(sources[i % 2] / "int8.tflite", served)
                wait_for(lambda: listed(service)[1]["sha256"] == digest(served))
                if i == 1:
                    known.append(service.client.post("/v1/models/cnn:predict", json={"instances": image}).text)
                if i == 10:
                    memory = worker.memory_info().rss
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert listed(service)[1]["refused"] is None
        grown = worker.memory_info().rss - memory
    assert len(set(known)) == 2
    assert {code for code, _ in answers} == {200}
    assert {text for _, text in answers} == set(known)
    assert grown < 10 << 20, f"30 reloads of a 45 kB file have cost {grown / 2**20:.1f} MB"


@pytest.mark.parametrize("damage", ["truncated", "digest", "no model", "json"])
def test_broken_file_is_refused_once_and_the_old_one_goes_on(models: Path, damage: str):
    served = models / "cnn" / "2" / "int8.tflite"
    good = shutil.copytree(served.parent, models.parent / "good") / "int8.tflite"
    content = served.read_bytes()
    with start_service(models, "--poll", "0.05") as service:
        image = {"instances": [[[[0.5]] * 8] * 8]}
        before = service.client.post("/v1/models/cnn:predict", json=image).json()
        if damage == "truncated":
            served.write_bytes(content[:1000])
            message = "truncated or exchanged"
        elif damage == "digest":
            put(good, served, sha256="0" * 64)
            message = "truncated or exchanged"
        elif damage == "no model":
            served.write_bytes(b"TFL3" * 100)
            put(good, served.parent / "int8.tflite", sha256=digest(served))
            served.write_bytes(b"TFL3" * 100)
            message = "cannot load"
        else:
            served.with_suffix(".json").write_text("{")
            message = "cannot be read"
        wait_for(lambda: listed(service)[2]["refused"] is not None)
        assert message in listed(service)[2]["refused"]
        assert service.client.get("/healthz").json()["refused_files"] == 1
        assert service.client.post("/v1/models/cnn:predict", json=image).json() == before
        assert service.client.post("/v1/reload").json() == {"changes": []}, "told once"
        put(good, served)
        wait_for(lambda: listed(service)[2]["refused"] is None)
        assert service.client.get("/healthz").json()["refused_files"] == 0
        service.process.send_signal(signal.SIGTERM)
        log = service.process.stderr.read().decode()  # type: ignore[union-attr]
    assert log.count("cnn version 2 refused, the one before goes on") == 1


@pytest.mark.parametrize("how", ["SIGHUP", "POST"])
def test_without_polling_a_signal_or_a_request_reloads(models: Path, how: str, monkeypatch: pytest.MonkeyPatch):
    with start_service(models, "--poll", "0") as service:
        worker = service.client.get("/healthz").json()["pid"]
        put(models / "cnn" / "1" / "int8.tflite", models / "cnn" / "2" / "int8.tflite")
        new = digest(models / "cnn" / "1" / "int8.tflite")
        assert listed(service)[2]["sha256"] != new
        if how == "POST":  # as `make deploy-all` does
            monkeypatch.setenv("EDGE_PORT", str(service.port))
            (edge,) = (s for s in load_services() if s.name == "edge")
            assert reload(edge) == [f"cnn version 2 loaded, sha256 {new[:12]}…"]
            assert reload(edge) == []
            assert listed(service)[2]["sha256"] == new
        else:
            service.process.send_signal(signal.SIGHUP)
            wait_for(lambda: listed(service)[2]["sha256"] == new)
        assert service.client.get("/healthz").json()["pid"] == worker


def test_pair_that_is_still_being_copied_is_no_problem_until_the_next_look(models: Path):
    """.tflite and json arrive one after the other, as scp copies them, in either order."""
    source, served = models / "cnn" / "1" / "int8.tflite", models / "cnn" / "2" / "int8.tflite"
    library = ModelLibrary(models, variant="int8")
    old = library.find("cnn", 2)
    shutil.copy(source, served)
    assert library.reload(patient=True) == []
    assert library.find("cnn", 2) is old
    assert library.problems() == []
    shutil.copy(source.with_suffix(".json"), served.with_suffix(".json"))
    (told,) = library.reload(patient=True)
    assert told.startswith("cnn version 2 loaded")
    served.write_bytes(served.read_bytes()[:50])
    assert library.reload(patient=True) == []
    (told,) = library.reload(patient=True)
    assert told.startswith("cnn version 2 refused, the one before goes on: ")
    assert library.reload(patient=True) == []
    assert library.find("cnn", 2).sha256 == digest(source)
    new = models / "cnn" / "3" / "int8.json"
    new.parent.mkdir()
    shutil.copy(source.with_suffix(".json"), new)
    assert library.reload(patient=True) == []
    assert library.find("cnn").sha256 == digest(source), "the default is what answers"
    shutil.copy(source, new.with_suffix(".tflite"))
    (told,) = library.reload(patient=True)
    assert told.startswith("cnn version 3 loaded")


def test_folder_that_is_gone_for_a_while_is_not_forgotten(models: Path):
    library = ModelLibrary(models, variant="int8")
    models.rename(models.parent / "away")
    assert library.reload(patient=False) == []
    assert library.find("cnn").version == 2
    models.mkdir()
    assert sorted(library.reload(patient=False)) == ["cnn version 1 is gone", "cnn version 2 is gone"]
    with pytest.raises(NotFoundError):
        library.find("cnn")
    assert library.describe() == []
