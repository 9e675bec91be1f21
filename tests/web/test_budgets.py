"""What the page may cost and must offer: bytes and requests of the first load, time to the first answers, accessibility."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from models.artifacts import REPOSITORY
from tests.web.conftest import ANSWERED, WAIT_MS

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

    from compare.browser import Browser, Scheme

pytestmark = pytest.mark.slow
AXE = REPOSITORY / "web" / "demo" / "node_modules" / "axe-core" / "axe.min.js"
FINDINGS = """async () => {
  const { violations, passes } = await axe.run();
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return [passes.length, serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`)];
}"""
RUNTIMES = {"tfjs-wasm": "tfjs-backend-wasm", "litertjs-wasm": "litert_wasm", "tfjs-cpu": None}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_first_load_is_small_and_holds_the_chosen_runtime_alone(
    browser: Browser, small_address: str, runtime: str
) -> None:
    with browser.context(width=1400, height=900, scheme="light", scale=1) as context:
        page = context.new_page()
        finished: list[Request] = []
        page.on("requestfinished", lambda request: finished.append(request))  # of its workers too
        page.goto(f"{small_address}/?runtime={runtime}")
        page.wait_for_function(ANSWERED, timeout=WAIT_MS)
        loaded = {urlsplit(request.url).path: request.sizes()["responseBodySize"] for request in finished}
    own = {path: size for path, size in loaded.items() if not path.startswith(("/models/", "/api/"))}
    of_runtimes = [path for path in own if path.endswith(".wasm")]
    mark = RUNTIMES[runtime]
    assert len(of_runtimes) == (1 if mark else 0)
    assert all(mark in path for path in of_runtimes)
    assert any(runtime in path for path in own)
    page_alone = [size for path, size in own.items() if "tf" not in path and "litert" not in path]
    assert 10e3 < sum(page_alone) < 1e6
    assert len(own) < 20


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")])
def test_page_has_no_serious_accessibility_finding(shared_page: Page, width: int, scheme: Scheme) -> None:
    shared_page.set_viewport_size({"width": width, "height": 900})
    shared_page.emulate_media(color_scheme=scheme)
    shared_page.evaluate(AXE.read_text())
    rules_kept, serious = shared_page.evaluate(FINDINGS)
    assert serious == []
    assert rules_kept > 15
