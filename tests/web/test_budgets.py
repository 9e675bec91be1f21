"""What the page may cost and must offer: bytes and requests of the first load, time to the first answers, accessibility."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.artifacts import REPOSITORY
from tests.web.conftest import ANSWERED, WAIT_MS

if TYPE_CHECKING:
    from compare.browser import Browser, Scheme

pytestmark = pytest.mark.slow
AXE = REPOSITORY / "web" / "demo" / "node_modules" / "axe-core" / "axe.min.js"
LOADED = """() => performance.getEntriesByType("resource").map(({ name, transferSize }) =>
    ({ path: new URL(name).pathname, bytes: transferSize }))"""
FINDINGS = """async () => {
  const { violations, passes } = await axe.run();
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return [passes.length, serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`)];
}"""
RUNTIMES = {"tfjs-wasm": "tfjs-backend-wasm", "litertjs-wasm": "litert_wasm", "tfjs-cpu": None}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_first_load_is_small_and_holds_the_chosen_runtime_alone(
    browser: Browser, page_address: str, runtime: str
) -> None:
    with browser.context(width=1400, height=900, scheme="light", scale=1) as context:
        page = context.new_page()
        page.goto(f"{page_address}/?runtime={runtime}")
        page.wait_for_function(ANSWERED, timeout=WAIT_MS)
        loaded = page.evaluate(LOADED)
    own = [file for file in loaded if not file["path"].startswith(("/models/", "/api/"))]
    of_runtimes = [file["path"] for file in own if file["path"].endswith(".wasm")]
    mark = RUNTIMES[runtime]
    assert len(of_runtimes) == (1 if mark else 0)
    assert all(mark in path for path in of_runtimes)
    page_alone = [file for file in own if "tf" not in file["path"] and "litert" not in file["path"]]
    assert sum(file["bytes"] for file in page_alone) < 1e6
    assert len(own) < 20


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")])
def test_page_has_no_serious_accessibility_finding(
    browser: Browser, page_address: str, width: int, scheme: Scheme
) -> None:
    with browser.context(width=width, height=900, scheme=scheme, scale=1) as context:
        page = context.new_page()
        page.goto(page_address)
        page.wait_for_function(ANSWERED, timeout=WAIT_MS)
        page.evaluate(AXE.read_text())
        rules_kept, serious = page.evaluate(FINDINGS)
    assert serious == []
    assert rules_kept > 15
