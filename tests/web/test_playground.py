"""Inputs of one's own on the real page: drawn, typed, scrubbed and moved; every place answers what was put in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.runtime import LiteModel
from tests.web.test_page import ANSWERED, FASTEST, cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator, Page

    from compare.browser import Browser
    from export.bundle import Export

pytestmark = pytest.mark.slow
CIRCLE = [(0.5 + 0.28 * math.sin(0.3 * i), 0.5 - 0.4 * math.cos(0.3 * i)) for i in range(22)]


@pytest.fixture
def page(shared_page: Page, errors: list[str]) -> Iterator[Page]:
    yield shared_page
    assert not errors


def panel(page: Page, model: str) -> Locator:
    return page.locator(f'.panel[data-model="{model}"]')


def answers(page: Page, model: str) -> dict[str, str]:
    """The answers of all places to an input of one's own, which must agree."""
    panel(page, model).get_by_text("your own input").wait_for()
    page.wait_for_function(ANSWERED)
    rows = {place: cells(page, model, place) for place in (FASTEST, "serving", "edge")}
    assert (rows[FASTEST]["agreement"], rows["serving"]["agreement"]) == ("same", "reference"), rows
    assert panel(page, model).locator("thead th").last.text_content() == "against Server"
    assert panel(page, model).locator(".agreement").inner_text()[:7] in ("= 2 mor", "≈ 2 mor", "≠ Devic")
    return {place: row["answer"] for place, row in rows.items()}


def corners(pad: Locator) -> list[tuple[float, float]]:
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in CIRCLE]


def test_digit_drawn_by_mouse_is_read(page: Page) -> None:
    points = corners(panel(page, "cnn").locator(".pad"))
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()
    assert set(answers(page, "cnn").values()) == {"0"}
    panel(page, "cnn").get_by_role("button", name="Clear").click()
    assert panel(page, "cnn").locator(".pad polyline").count() == 0


def test_digit_drawn_by_touch_is_read(browser: Browser, small_address: str) -> None:
    with browser.context(width=390, height=844, scheme="light", scale=2, touch=True) as phone:
        page = phone.new_page()
        page.goto(small_address)
        page.wait_for_function(ANSWERED, timeout=60_000)
        points = corners(panel(page, "cnn").locator(".pad"))
        touch = phone.new_cdp_session(page)
        for kind, (x, y) in zip(["touchStart", *["touchMove"] * 21], points, strict=True):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert set(answers(page, "cnn").values()) == {"0"}


@pytest.mark.parametrize(
    ("name", "language"), [("Nouvelle-Calédonie", "French"), ("Thành phố Hồ Chí Minh", "Vietnamese")]
)
def test_name_is_read_as_it_is_typed(page: Page, name: str, language: str) -> None:
    field = panel(page, "transformer").get_by_role("textbox")
    field.fill("")
    field.press_sequentially(name)
    assert set(answers(page, "transformer").values()) == {language}


def test_years_are_scrubbed_through(page: Page, exports: dict[tuple[str, int], Export]) -> None:
    case = exports["lstm", 2].evidence.cases()[0]
    slider = panel(page, "lstm").get_by_role("slider")
    assert slider.get_attribute("max") == str(case.rows - 1)
    slider.fill("100")
    expected = float(case.outputs["next_week"][100].item())
    assert answers(page, "lstm")[FASTEST] == f"{expected:.2f} ppm"


def test_features_of_a_tumour_are_moved(page: Page, exports: dict[tuple[str, int], Export]) -> None:
    export = exports["mlp", 2]
    first = panel(page, "mlp").locator(".sliders label").first
    name = first.inner_text().splitlines()[0].strip()
    slider = first.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    shown = answers(page, "mlp")
    (features,) = export.spec.inputs
    assert features.columns
    row = export.evidence.cases()[0].inputs["features"][shown_row(page, export)].copy()
    row[features.columns.index(name)] = float(slider.input_value())
    (probability,) = LiteModel(export.lite("float32")).predict({"features": row[None].astype(np.float32)}).values()
    decision = export.spec.decision
    assert decision
    assert shown[FASTEST] == decision.labels[int(probability.item() >= decision.threshold)]


def shown_row(page: Page, export: Export) -> int:
    from web.samples import choose, open_on_a_right_one

    case = export.evidence.cases()[0]
    return open_on_a_right_one(choose(case), case, export.spec)[0]
