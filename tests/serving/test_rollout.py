"""Version 2 beside 1, promoted, rolled back and version 1 unloaded, on a running server that answers throughout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from export.bundle import Export
from models.artifacts import REPOSITORY, artifacts_root
from models.errors import ArtifactError, DeployError, ModelError
from serving import rollout
from serving.client import ClientError, GrpcClient, RestClient, Split
from serving.local import LocalServer, local_server
from serving.models_config import config_path, current_labels, read_labels
from serving.publish import main, publish_all
from tests.commands import run_command
from tests.serving.deadlines import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Server = Callable[[LocalServer], rollout.Server]


def add_export(root: Path, version: int, of: int | None = None) -> None:
    """Version ``of`` of the mlp as ``version``."""
    source = str(of or version)
    for kind in ("savedmodels", "lite"):
        shutil.copytree(artifacts_root() / kind / "mlp" / source, root / kind / "mlp" / str(version))
    (root / "evidence" / "mlp").mkdir(parents=True, exist_ok=True)
    for suffix in ("npz", "proof.json", "json"):  # an export is there when its json is
        file = artifacts_root() / "evidence" / "mlp" / f"{source}.{suffix}"
        shutil.copy(file, root / "evidence" / "mlp" / f"{version}.{suffix}")


def remove_export(root: Path, version: int) -> None:
    for suffix in ("json", "npz"):
        (root / "evidence" / "mlp" / f"{version}.{suffix}").unlink()


@pytest.fixture
def root(tmp_path: Path, repository_folder: Path) -> Path:
    """An artifacts folder with version 1 of the mlp published."""
    add_export(tmp_path, 1)
    publish_all(tmp_path)
    return tmp_path


@pytest.fixture
def both(root: Path) -> Path:
    add_export(root, 2)
    publish_all(root)
    return root


@contextmanager
def serving(root: Path) -> Iterator[tuple[LocalServer, rollout.Server]]:
    with local_server(config_path(root), engine="litert", flags=("--file_system_poll_wait_seconds=0.1",)) as running:
        yield running, rollout.Server(running.grpc_address, root / "repository")


class Traffic:
    """Threads with kept-alive connections that ask by label, and what they saw."""

    def __init__(self, running: LocalServer, expected: dict[int, np.ndarray], features: np.ndarray) -> None:
        self.answers: list[tuple[str, int | None, str]] = []  # label, the version that the answer is of, error
        self._expected, self._features = expected, features
        self._stop = threading.Event()
        split = Split({"stable": 1, "canary": 1})
        self._clients = [RestClient(running.rest_address), GrpcClient(running.grpc_address)]
        self._threads = [threading.Thread(target=self._ask, args=(client, split)) for client in self._clients]
        for thread in self._threads:
            thread.start()

    def _ask(self, client: RestClient | GrpcClient, split: Split) -> None:
        while not self._stop.is_set():
            label = split.choose()
            try:
                answer = client.predict("mlp", {"features": self._features}, label=label)["probability"]
            except ClientError as error:
                self.answers.append((label, None, str(error)))
                continue
            version = next((v for v, e in self._expected.items() if np.allclose(answer, e, rtol=1e-5, atol=1e-5)), None)
            self.answers.append((label, version, ""))
            time.sleep(0.002)

    def seen(self, least: int = 40) -> set[tuple[str, int | None, str]]:
        """What the next requests get, all four threads included."""
        start = len(self.answers)
        wait_for(lambda: len(self.answers) >= start + least, "the load goes on")
        return set(self.answers[start + 8 :])  # what was in flight may still be of before

    def stop(self) -> list[tuple[str, int | None, str]]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()
        return self.answers


@pytest.mark.slow
def test_no_request_fails_while_versions_come_move_and_go(root, exports):
    cases = {version: exports["mlp", version].evidence.cases("serving_default")[0] for version in (1, 2)}
    expected = {version: case.outputs["probability"][:3] for version, case in cases.items()}
    features = cases[1].inputs["features"][:3]
    np.testing.assert_array_equal(features, cases[2].inputs["features"][:3])
    with serving(root) as (running, server):
        traffic = Traffic(running, expected, features)
        try:
            assert traffic.seen() == {("stable", 1, ""), ("canary", 1, "")}
            add_export(root, 2)
            publish_all(root)
            assert rollout.apply(root, current_labels(root), server, {"mlp": [1, 2]})
            assert traffic.seen() == {("stable", 1, ""), ("canary", 2, "")}
            assert rollout.promote(root, "mlp", server) == rollout.Move("mlp", 1, 2, told=True)
            assert traffic.seen() == {("stable", 2, ""), ("canary", 2, "")}
            assert rollout.rollback(root, "mlp", server) == rollout.Move("mlp", 2, 1, told=True)
            assert traffic.seen() == {("stable", 1, ""), ("canary", 2, "")}
            rollout.promote(root, "mlp", server)
            remove_export(root, 1)
            assert publish_all(root)["removed"] == ["mlp version 1"]
            with GrpcClient(running.grpc_address) as client:
                wait_for(
                    lambda: {r["version"]: r["state"] for r in client.status("mlp")} == {2: "AVAILABLE", 1: "END"},
                    "version 1 unloaded",
                )
            assert traffic.seen() == {("stable", 2, ""), ("canary", 2, "")}
        finally:
            answers = traffic.stop()
        assert "Traceback" not in running.log.read_text()
    assert [error for _, _, error in answers if error] == []
    assert {version for _, version, _ in answers} == {1, 2}


@pytest.mark.slow
def test_promoted_label_survives_publishing_and_a_restart(both):
    nobody = rollout.Server("127.0.0.1:1", both / "repository")
    assert rollout.promote(both, "mlp", nobody) == rollout.Move("mlp", 1, 2, told=False)
    before = config_path(both).read_text()
    publish_all(both)
    assert config_path(both).read_text() == before
    assert read_labels(both) == {"mlp": {"stable": 2, "canary": 2, "previous": 1}}
    with serving(both) as (running, _), GrpcClient(running.grpc_address) as client:
        assert client.metadata("mlp", label="stable")["model_spec"]["version"] == "2"
    docker = config_path(both).with_name("models.docker.config").read_text()
    assert 'version_labels { key: "stable" value: 2 }' in docker
    assert rollout.rollback(both, "mlp", nobody).after == 1
    assert read_labels(both) == {"mlp": {"stable": 1, "canary": 2}}


def test_newer_version_becomes_canary_and_leaves_stable_where_it_is(both):
    nobody = rollout.Server("127.0.0.1:1", both / "repository")
    rollout.promote(both, "mlp", nobody)
    add_export(both, 3, of=2)
    publish_all(both)
    assert read_labels(both) == {"mlp": {"stable": 2, "canary": 3, "previous": 1}}
    remove_export(both, 2)
    publish_all(both)
    assert read_labels(both) == {"mlp": {"stable": 1, "canary": 3}}  # stable's version is gone: back to where it was


def test_server_that_does_not_take_the_labels_leaves_the_file_as_it_is(both, base, add_version, serve):
    add_version(1)
    running = serve("all {}", f"--model_roots={base}")  # another repository: its mlp has no version 2
    before = config_path(both).read_text()
    server = rollout.Server(running.grpc_address, both / "repository")
    with pytest.raises(DeployError, match=r"version 2 of mlp is not there yet after 0\.3 s"):
        rollout.promote(both, "mlp", server, wait=0.3)
    add_version(2)
    with pytest.raises(DeployError, match=r"did not take the labels .*model_roots.*stays as it is"):
        rollout.promote(both, "mlp", server)
    assert config_path(both).read_text() == before


@pytest.mark.slow
def test_version_that_cannot_be_loaded_is_not_promoted(both):
    broken = Export(both, "mlp", 2).published / "model.tflite"
    with serving(both) as (_, server):
        broken.unlink()
        broken.write_bytes(b"\x08\xff\xffnot a model" * 50)
        shutil.copytree(broken.parent, both / "staged")
        (both / "staged").rename(both / "repository" / "mlp" / "3")
        with pytest.raises(DeployError, match=r"version 3 of mlp cannot be loaded: .*model\.tflite"):
            rollout.promote(both, "mlp", server, wait=20)
        with GrpcClient(server.address) as client:  # one that works is promoted all the same
            assert rollout.promote(both, "mlp", server, to=2, wait=20).told
            assert client.metadata("mlp", label="stable")["model_spec"]["version"] == "2"


@pytest.mark.parametrize(
    ("move", "words"),
    [
        (lambda root, server: rollout.promote(root, "nothing", server), "no model named 'nothing'.*; there are: mlp"),
        (lambda root, server: rollout.promote(root, "mlp", server, to=9), "version 9 of mlp is not published"),
        (lambda root, server: rollout.rollback(root, "mlp", server), "mlp has nothing to roll back to"),
        (lambda root, server: rollout.rollback(root, "nothing", server), "no model named 'nothing'"),
    ],
)
def test_mistake_is_one_sentence_with_a_remedy(both, move, words):
    with pytest.raises(ModelError, match=words):
        move(both, rollout.Server("127.0.0.1:1", both / "repository"))


def test_config_that_is_damaged_says_what_to_do(both):
    config_path(both).write_text("model_config_list {")
    with pytest.raises(ArtifactError, match="delete it and run `make publish`"):
        publish_all(both)


@pytest.mark.slow
def test_commands_say_what_they_did_and_where(both):
    def options() -> list[str]:
        return ["--root", str(both), "--grpc-address", address]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(main, *arguments, *options())

    address = "127.0.0.1:1"
    assert run("promote", "mlp").stdout.startswith("mlp: stable moved from 1 to 2 in models.config only: no server")
    with serving(both) as (running, _):
        address = running.grpc_address
        assert run("rollback", "mlp").stdout == f"mlp: stable moved from 2 to 1 at {address} and in models.config\n"
        table = [line.split() for line in run("status", "mlp").stdout.splitlines()[2:]]
        assert table == [
            ["mlp", "2", "litert", "canary", "AVAILABLE", "canary"],
            ["mlp", "1", "litert", "stable", "AVAILABLE", "stable"],
        ]
        command = [sys.executable, "-m", "serving.publish", "rollback", "mlp", *options()]
        failed = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert failed.returncode == 2
        assert failed.stderr.startswith("error: mlp has nothing to roll back to")
        assert len(failed.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status"], "error: nothing is published below "),
        (["promote", "mlp"], "error: nothing is published below "),
        (["status", "--wait", "nan"], "--wait=nan is no time; give a number of seconds"),
    ],
)
def test_command_without_anything_to_work_on_says_so(tmp_path, arguments, words):
    done = run_command(main, *arguments, "--root", tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
