"""How fast the page is: ``python -m web.bench``. Times of this machine, medians; nothing is asserted.

1. In-page time of an inference (in the page's worker, as the page asks) against a bare loop of the same library on a
   page of its own, interleaved: the ratio of the medians, per runtime and model.
2. The first screen, over fresh browser contexts, in ms from the navigation: panels to use, the first answer of any place,
   the first in the browser, a whole model on all places, all models.
3. The longest task of the main thread while a digit is drawn, in ms.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.browser import Browser
from compare.cold import one_row
from compare.own_services import own_services
from compare.targets import page as pages
from compare.transport import encode_all
from deploy.columns import columns
from export.bundle import find_exports
from models.artifacts import artifacts_root
from models.errors import TargetError, run_cli
from web.local import running_app
from web.screenshot import ANSWERED

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNTIMES = ("litertjs-wasm", "tfjs-wasm", "tfjs-cpu", "tfjs-webgl")  # WebGPU in software is no measure of anything
CALLS, ROUNDS = 60, 7
SLOW_MS = 20  # an answer; slower cells are asked less often
WAIT_MS = 60_000

# What is on the screen, looked at once a frame; each moment is kept once.
WATCH = """() => {
  window.moments = {};
  const looks = {
    panels: () => document.querySelector(".panel .choices button"),
    answer: () => document.querySelector("tr[data-agreement]:not([data-agreement=down])"),
    browser: () => document.querySelector("tr[data-place*=js][data-agreement]:not([data-agreement=down])"),
    model: () => [...document.querySelectorAll(".panel")].some((panel) =>
      panel.querySelector("tr[data-place*=js]") && !panel.querySelector("tbody tr:not([data-agreement])")),
    all: () => document.querySelector(".panel") && !document.querySelector(".panel[aria-busy=true]"),
  };
  const look = () => {
    for (const [name, seen] of Object.entries(looks)) if (!(name in moments) && seen()) moments[name] = performance.now();
    if (!("all" in moments)) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
LONG_TASKS = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
  }).observe({ type: "longtask" });
}"""


def against_bare(browser: Browser) -> list[tuple[str, ...]]:
    """Per runtime and model: the page's median, the bare loop's, their ratio."""
    by_name = {target.name: target for target in pages.TARGETS}
    rows: list[tuple[str, ...]] = []
    for export in find_exports(versions=[2]):
        inputs = encode_all(one_row(export, "serving_default"), export.spec.inputs)
        for name in RUNTIMES:
            target = by_name[name]
            page = pages.open_page(browser)
            try:
                url = pages.serve(browser, target.file(export))
                pages.evaluate(page, "name => bench.start(name)", name)
                pages.evaluate(page, "u => bench.load(u)", url)
                slow = np.median(pages.evaluate(page, "x => bench.time(x, 10)", inputs)) > SLOW_MS
                given = [url, inputs, CALLS // 10 if slow else CALLS, ROUNDS]
                ours, bare = pages.evaluate(page, "given => bench.againstBare(...given)", given)
            finally:
                pages.close_page(page)
            ratios = [np.median(a) / np.median(b) for a, b in zip(ours, bare, strict=True)]
            row = (
                name,
                export.model,
                f"{np.median(ours):.3f}",
                f"{np.median(bare):.3f}",
                f"{np.median(ratios):.2f}",
            )
            print("  ".join(row), flush=True)
            rows.append(row)
    return rows


def first_screen(browser: Browser, address: str, times: int) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {}
    for _ in range(times):
        with browser.context(width=1400, height=900, scheme="light", scale=1) as context:
            page = context.new_page()
            page.add_init_script(f"({WATCH})()")
            page.goto(address)
            page.wait_for_function("() => 'all' in moments", timeout=WAIT_MS)
            moments: dict[str, Any] = page.evaluate("moments")
            for name, milliseconds in moments.items():
                seen.setdefault(name, []).append(milliseconds)
    return seen


def longest_task(browser: Browser, address: str) -> float:
    """While 200 movements of the pen are answered by every place."""
    with browser.context(width=1400, height=900, scheme="light", scale=1) as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_function(ANSWERED, timeout=WAIT_MS)
        page.evaluate(LONG_TASKS)
        box = page.locator('.panel[data-model="cnn"] .pad').bounding_box()
        assert box
        page.mouse.move(box["x"] + 10, box["y"] + 10)
        page.mouse.down()
        for step in range(200):
            x, y = 0.5 + 0.4 * np.sin(step / 9), 0.5 + 0.4 * np.cos(step / 13)
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.mouse.up()
        page.wait_for_function(ANSWERED, timeout=WAIT_MS)
        longest: float = page.evaluate("longest")
    return longest


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m web.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=7, help="how often the first screen is loaded")
    options = parser.parse_args(argv)
    if options.times < 1:
        parser.error(f"argument --times: {options.times} loads nothing; use 1 or more")
    browser = Browser()
    browser.files.serve("", pages.DIST)
    try:
        rows = against_bare(browser)
        with own_services(artifacts_root()) as unwell:
            if unwell:
                raise TargetError(f"the services do not start: {unwell}; run `make deploy-all`")
            rest, edge = (f"http://127.0.0.1:{os.environ[name]}" for name in ("REST_PORT", "EDGE_PORT"))
            with running_app(rest=rest, edge=edge, artifacts=artifacts_root()) as address:
                screen = first_screen(browser, address, options.times)
                longest = longest_task(browser, address)
    finally:
        browser.close()
    print()
    print(columns([("runtime", "model", "page ms", "bare ms", "ratio"), *rows]))
    words = {
        "panels": "panels",
        "answer": "first answer",
        "browser": "first in the browser",
        "model": "a model on all places",
        "all": "all models",
    }
    for name, spoken in words.items():
        print(f"{spoken}: {np.median(screen[name]):.0f} ms after the navigation, median of {options.times}")
    print(
        f"longest task of the main thread while a digit is drawn: {f'{longest:.0f} ms' if longest else 'below 50 ms'}"
    )


if __name__ == "__main__":
    run_cli(main)
