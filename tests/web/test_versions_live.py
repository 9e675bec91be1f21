"""Versions, live: the real page watches the real server while a version is promoted and rolled back."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

import pytest

from models.artifacts import artifacts_root
from serving import rollout
from serving.local import local_server, start, stop, wait_until_open
from serving.models_config import CANARY, STABLE, config_path, config_text, write_configs
from tests.conftest import copy_published
from tests.web.conftest import WAIT_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from export.bundle import Export
    from serving.local import LocalServer
    from tests.web.conftest import StartApp

pytestmark = pytest.mark.slow
# Past what it was when this began to be waited for.
ASKED_AGAIN = """([label, before]) =>
    Number(document.querySelector(`[data-label=${label}] [data-name=requests] dd`).textContent) > before + 5"""


@pytest.fixture
def root(tmp_path: Path, exports: dict[tuple[str, int], Export]) -> Path:
    """The mlp alone, in two versions, published: ``stable`` is 1, ``canary`` is 2."""
    copy_published([exports["mlp", version] for version in (1, 2)], tmp_path)
    shutil.copytree(artifacts_root() / "web" / "mlp", tmp_path / "web" / "mlp")
    shutil.copytree(artifacts_root() / "lite" / "mlp", tmp_path / "lite" / "mlp")
    write_configs(tmp_path, {"mlp": {STABLE: 1, CANARY: 2}})
    return tmp_path


@pytest.fixture
def watch(start_app: StartApp, open_page: Callable[[str], Page], free_port: Callable[[], int]) -> Callable[..., Page]:
    """The page of the models in ``root``, watching the server."""

    def begin(root: Path, running: LocalServer) -> Page:
        nobody = f"http://127.0.0.1:{free_port()}"
        page = open_page(start_app(rest=f"http://{running.rest_address}", edge=nobody, artifacts=root))
        page.get_by_role("button", name="Watch").click()
        return page

    return begin


@contextmanager
def serving(root: Path) -> Iterator[tuple[LocalServer, rollout.Server]]:
    with local_server(config_path(root), engine="litert") as running:
        yield running, rollout.Server(running.grpc_address, root / "repository")


def lane(page: Page, label: str) -> Locator:
    return page.locator(f'.lane[data-label="{label}"]')


def count(page: Page, label: str, name: str) -> int:
    return int(lane(page, label).locator(f'[data-name="{name}"] dd').inner_text())


def asked_again(page: Page, label: str) -> None:
    page.wait_for_function(ASKED_AGAIN, arg=[label, count(page, label, "requests")], timeout=WAIT_MS)


def event(page: Page, words: str) -> str:
    line = page.locator(".events p", has_text=re.compile(words)).first
    line.wait_for(timeout=WAIT_MS)
    return line.inner_text()


def test_promotion_and_rollback_arrive_without_a_failed_request(
    root: Path, watch: Callable[..., Page], errors: list[str]
) -> None:
    with serving(root) as (running, server):
        page = watch(root, running)
        for label, version in (("stable", 1), ("canary", 2)):
            asked_again(page, label)
            assert lane(page, label).locator(".now").inner_text().split() == ["version", str(version)]
            assert (
                lane(page, label).locator(".note").inner_text() == f"the label points to version {version}, AVAILABLE"
            )
        assert rollout.promote(root, "mlp", server).told
        assert event(page, r"stable moved from 1 to 2 after \d+ requests").endswith(", 0 failed")
        asked_again(page, "stable")
        steps = lane(page, "stable").locator(".steps").get_attribute("d") or ""
        heights = re.findall(r"(?:V|M\S+ )(\d+)", steps)
        assert [height for height, _ in groupby(heights)] == ["33", "11"]  # one step up
        assert steps.count("M") == 1  # of one line
        assert rollout.rollback(root, "mlp", server).told
        assert event(page, r"stable moved from 2 to 1 after \d+ requests").endswith(", 0 failed")
        asked_again(page, "stable")
        for label in ("stable", "canary"):
            assert (count(page, label, "failed"), count(page, label, "wrong")) == (0, 0)
        assert min(count(page, "stable", "version 1"), count(page, "stable", "version 2")) > 5
        assert count(page, "canary", "version 1") == 0
        assert page.locator(".events p").count() == 2
    assert not errors


def test_nothing_is_asked_before_it_is_wanted_nor_when_it_is_stopped_or_hidden(
    root: Path, watch: Callable[..., Page], errors: list[str]
) -> None:
    asked: list[str] = []

    def settled(page: Page) -> list[str]:
        page.wait_for_timeout(500)  # what was on its way, and pauses that were begun
        asked.clear()
        page.wait_for_timeout(1000)
        return [url for url in asked if "/labels/" in url]

    with serving(root) as (running, _):
        page = watch(root, running)
        page.on("request", lambda request: asked.append(request.url))
        asked_again(page, "stable")
        page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
        assert settled(page) == []
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        asked_again(page, "stable")
        page.get_by_role("button", name="Stop").click()
        assert settled(page) == []
        page.reload()
        page.locator("#kept").wait_for(timeout=WAIT_MS)  # the last that the page does by itself
        assert settled(page) == []
        assert lane(page, "stable").locator(".now").inner_text().split() == ["version", "–"]
    assert not errors


def test_labels_that_the_server_does_not_have_are_said_and_taken_up_when_they_come(
    root: Path, watch: Callable[..., Page], errors: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "only-stable.config"
    config.write_text(config_text({"mlp": [1, 2]}, root / "repository", {"mlp": {"stable": 1}}))
    with local_server(config, engine="litert") as running:
        page = watch(root, running)
        event(page, "canary: the server has no label canary for mlp; run `make publish`")
        asked_again(page, "stable")
        assert lane(page, "canary").get_attribute("data-state") == "obstacle"
        assert count(page, "canary", "requests") == 0
        rollout.apply(
            root, {"mlp": {"stable": 1, "canary": 2}}, rollout.Server(running.grpc_address, root / "repository"), {}
        )
        event(page, "canary answers again")
        asked_again(page, "canary")
        page.get_by_role("button", name="Stop").click()
        assert count(page, "canary", "version 2") == count(page, "canary", "requests")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, "it does not fit a phone"
    assert not errors


def test_answer_that_no_version_recorded_is_wrong(root: Path, watch: Callable[..., Page], errors: list[str]) -> None:
    """The page knows version 2 alone, and the server answers with version 1 where it is asked for ``stable``."""
    shutil.rmtree(root / "web" / "mlp" / "1")
    with serving(root) as (running, _):
        page = watch(root, running)
        event(page, "stable: the answer is not what any version recorded")
        asked_again(page, "stable")
        page.get_by_role("button", name="Stop").click()
        assert count(page, "stable", "wrong") == count(page, "stable", "requests")
        assert lane(page, "stable").locator("path.fault").count() > 5
        assert count(page, "canary", "wrong") == 0
        assert lane(page, "canary").locator("path.fault").count() == 0
    assert not errors


def test_server_that_stops_is_said_and_the_watch_goes_on_when_it_is_back(
    root: Path, watch: Callable[..., Page], errors: list[str], tmp_path: Path
) -> None:
    with serving(root) as (running, _):
        page = watch(root, running)
        asked_again(page, "stable")
        stop(running.process)
        event(page, f"stable: the server does not answer at http://{running.rest_address}; run `make status`")
        event(page, "canary: the server does not answer")
        log = tmp_path / "again.log"
        ports = {"grpc_port": running.grpc_port, "rest_port": running.rest_port}
        again = start(config_path(root), **ports, engine="litert", log=log)
        try:
            wait_until_open(again, running.grpc_port, log)
            event(page, "stable answers again")
            asked_again(page, "stable")
            for label in ("stable", "canary"):
                assert count(page, label, "failed") <= 1  # what was on its way: then it asks whether somebody is there
        finally:
            stop(again)
    assert all("502" in error or "504" in error for error in errors)
    assert len(errors) <= 2
